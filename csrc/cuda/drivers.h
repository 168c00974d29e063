// The CUDA drivers, which take tensors of any strides. They only put work on the stream: they wait for nothing and copy
// nothing back. They throw std::runtime_error where the device refuses.
#pragma once

#include <cstddef>
#include <functional>

#include "math/host_device.h"

namespace crowdseg {

struct Stream {
  void* handle;
  int device;
  std::function<void*(std::size_t)> allocate;  // temporary memory, in bytes; any type may begin there

  template <class T>
  T* take(std::int64_t count) const {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }
};

using Where = Stream;

// Why the kernels cannot run here, in a sentence; empty where they can.
const char* problem();

}  // namespace crowdseg

#include "signatures.h"
