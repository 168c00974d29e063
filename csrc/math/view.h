// A tensor as the drivers see it: pointer, sizes and strides.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

template <class T, int N>
struct View {
  T* data = nullptr;
  std::int64_t size[N] = {};
  std::int64_t stride[N] = {};  // in elements

  template <class... Index>
  CROWDSEG_HD T& operator()(Index... index) const {
    static_assert(sizeof...(Index) == N, "one index per dimension");
    const std::int64_t indices[N] = {static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (int i = 0; i < N; ++i) offset += indices[i] * stride[i];
    return data[offset];
  }
};

// The points of B images, image after image, as Python's Grouped hands them over.
struct Points {
  View<const double, 2> xy;             // (N, 2), pixels
  View<const std::int64_t, 1> offsets;  // (B + 1,): image b has the points offsets[b] to offsets[b + 1]
};

struct Size {
  std::int64_t height, width;
};

}  // namespace crowdseg
