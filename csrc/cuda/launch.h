// Putting kernels on a stream. The test suite compiles the same sources for the CPU (tests/emulator).
#pragma once

#ifndef CROWDSEG_EMULATED
#include <cuda_runtime.h>

#define CROWDSEG_SHARED(type, name) __shared__ type name  // memory of a block, in a kernel
#endif

#include <limits>
#include <stdexcept>
#include <type_traits>

#include "cuda/drivers.h"

namespace crowdseg {

constexpr int kThreads = 256;  // of a block, in one dimension
constexpr int kLanes = 32;
constexpr int kWarps = kThreads / kLanes;
constexpr unsigned kAllLanes = 0xffffffffu;
// Blocks along an axis of the grid; kernels go round where there is more to do.
constexpr std::int64_t kMaxBlocks = std::numeric_limits<std::int32_t>::max(), kMaxBlocksY = 65535;

inline void check(cudaError_t error) {
  if (error != cudaSuccess) throw std::runtime_error(cudaGetErrorString(error));
}

// Every driver's first word. Python has made the same device torch's current one, and puts that back.
inline void use_device(const Stream& stream) { check(cudaSetDevice(stream.device)); }

struct Blocks {
  std::int64_t x, y = 1;
};

// Enough blocks for a thread each.
inline Blocks blocks_for(std::int64_t threads) { return {smaller((threads + kThreads - 1) / kThreads, kMaxBlocks)}; }

template <class T>
struct Given {
  using type = T;
};

template <class... Params>
void launch(const Stream& stream, Blocks blocks, void (*kernel)(Params...), typename Given<Params>::type... args) {
  if (blocks.x == 0 || blocks.y == 0) return;
  const dim3 grid(static_cast<unsigned>(blocks.x), static_cast<unsigned>(blocks.y));
#ifdef CROWDSEG_EMULATED
  emulator::run(reinterpret_cast<const void*>(kernel), grid, kThreads, [&] { kernel(args...); });
#else
  kernel<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream.handle)>>>(args...);
#endif
  check(cudaGetLastError());
}

// `count` values of `byte` in every byte; all of them numbers, so 0 is 0 and 0xff is -1 or the largest unsigned.
template <class T>
T* take_filled(const Stream& stream, std::int64_t count, unsigned char byte) {
  static_assert(std::is_trivially_copyable_v<T>);
  T* memory = stream.take<T>(count);
  if (count > 0) check(cudaMemsetAsync(memory, byte, count * sizeof(T), static_cast<cudaStream_t>(stream.handle)));
  return memory;
}

// A contiguous matrix.
template <class T>
View<T, 2> take_matrix(const Stream& stream, std::int64_t rows, std::int64_t columns) {
  return {stream.take<T>(rows * columns), {rows, columns}, {columns, 1}};
}

#if defined(__CUDACC__) || defined(CROWDSEG_EMULATED)
// Index of the thread in the whole grid's first axis, and how many threads that has.
__device__ inline std::int64_t global_thread() {
  return static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
}
__device__ inline std::int64_t global_threads() { return static_cast<std::int64_t>(gridDim.x) * kThreads; }
#endif

}  // namespace crowdseg
