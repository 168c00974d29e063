// CUDA kernels on the CPU: as much of the language and the runtime as csrc/cuda uses, for compiling it with g++
// -DCROWDSEG_EMULATED -include this.
//
// Blocks run one after another. The threads of a block are fibres, in random order (CROWDSEG_EMULATOR_SEED chooses
// another), some warps ahead of others; each runs until it waits, so that a missing barrier shows as a wrong result.
// Shared memory starts as 0xff bytes: NaN. A barrier or a warp operation that not all threads reach is an error; a GPU
// would hang.
#pragma once

#undef _FORTIFY_SOURCE  // which takes a jump between fibres for a broken stack

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define CROWDSEG_SHARED(type, name) static type& name = ::emulator::shared<type>()

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 gridDim, blockDim, blockIdx, threadIdx;

namespace emulator {

constexpr int kLanes = 32;

// A place where `size` threads meet. `values` are those of this meeting and of the one before, which a thread may still
// be reading while others come to the next.
struct Meeting {
  int size = 0, arrived = 0;
  std::int64_t generation = 0;
  int line = 0;  // of the first to come
  std::uint64_t values[2][kLanes];
};

struct Fibre {
  ucontext_t context;
  jmp_buf place;
  bool started = false, done = false;
  const Meeting* waits_at = nullptr;
  std::int64_t waits_for = 0;  // generation that ends the wait
  std::unique_ptr<char[]> stack;
};

struct Region {
  void* data;
  std::size_t size;
};

constexpr std::size_t kStack = 64 << 10;

inline std::vector<Fibre> fibres;
inline std::vector<Meeting> warps;
inline Meeting block;
inline int current = 0;
inline jmp_buf scheduler;
inline const std::function<void()>* body = nullptr;
inline const void* running = nullptr;
inline std::map<const void*, std::vector<Region>> shared_memory;  // of each kernel
inline std::string failure;

inline bool waiting(const Fibre& fibre) {
  return fibre.waits_at != nullptr && fibre.waits_at->generation < fibre.waits_for;
}

inline void yield() {
  if (_setjmp(fibres[current].place) == 0) _longjmp(scheduler, 1);
}

// Waits until all threads of a meeting have come; returns the values they brought.
inline const std::uint64_t* meet(Meeting& meeting, int line, int lane = 0, std::uint64_t value = 0) {
  std::uint64_t* values = meeting.values[meeting.generation % 2];
  if (meeting.arrived == 0) meeting.line = line;
  if (meeting.line != line) {
    failure = "threads wait in line " + std::to_string(meeting.line) + " and in line " + std::to_string(line);
  }
  values[lane] = value;
  if (++meeting.arrived == meeting.size) {
    meeting.arrived = 0;
    ++meeting.generation;
  } else {
    Fibre& fibre = fibres[current];
    fibre.waits_at = &meeting;
    fibre.waits_for = meeting.generation + 1;
    yield();
    fibre.waits_at = nullptr;
  }
  return values;
}

template <class T>
std::uint64_t bits_of(T value) {
  static_assert(sizeof(T) <= 8);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T shuffle(T value, int line, int from) {
  const int lane = current % kLanes;
  const std::uint64_t* values = meet(warps[current / kLanes], line, lane, bits_of(value));
  const std::uint64_t bits = values[from >= 0 && from < kLanes ? from : lane];
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

inline unsigned ballot(bool vote, int line) {
  const std::uint64_t* values = meet(warps[current / kLanes], line, current % kLanes, vote);
  unsigned votes = 0;
  for (int lane = 0; lane < kLanes; ++lane) votes |= static_cast<unsigned>(values[lane]) << lane;
  return votes;
}

// Memory of a kernel for all threads of a block.
template <class T>
T& shared() {
  T* memory = static_cast<T*>(std::aligned_alloc(256, (sizeof(T) + 255) / 256 * 256));
  shared_memory[running].push_back({memory, sizeof(T)});
  std::memset(static_cast<void*>(memory), 0xff, sizeof(T));
  return *memory;
}

inline void start() {
  (*body)();
  fibres[current].done = true;
  _longjmp(scheduler, 1);
}

inline void resume(int thread) {
  Fibre& fibre = fibres[thread];
  current = thread;
  threadIdx.x = thread;
  if (_setjmp(scheduler) != 0) return;  // the fibre came to rest
  if (fibre.started) _longjmp(fibre.place, 1);
  fibre.started = true;
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack.get();
  fibre.context.uc_stack.ss_size = kStack;
  makecontext(&fibre.context, start, 0);
  setcontext(&fibre.context);
}

// Resumes those threads of the block that do not wait, of all warps or of some. Returns whether there were any.
inline bool resume_some(const std::vector<int>& order, unsigned some_warps) {
  bool moved = false;
  for (int thread : order) {
    if (!(some_warps >> thread / kLanes % 32 & 1) || fibres[thread].done || waiting(fibres[thread])) continue;
    moved = true;
    resume(thread);
  }
  return moved;
}

inline void run_block(const std::vector<int>& order, std::mt19937& random) {
  for (Fibre& fibre : fibres) fibre.started = fibre.done = false, fibre.waits_at = nullptr;
  for (Meeting& warp : warps) warp.size = kLanes, warp.arrived = 0;
  block.size = static_cast<int>(fibres.size()), block.arrived = 0;
  for (const Region& region : shared_memory[running]) std::memset(region.data, 0xff, region.size);
  // Some warps run ahead of the others, as far as these let them; then some other warps do.
  unsigned ahead = ~0u;
  const auto change = [&] { return ahead = static_cast<unsigned>(random()); };
  const auto go_on = [&] {
    return resume_some(order, ahead) || resume_some(order, change()) || resume_some(order, ~0u);
  };
  while (failure.empty() && go_on()) continue;
  const auto unfinished = [](const Fibre& fibre) { return !fibre.done; };
  if (failure.empty() && std::any_of(fibres.begin(), fibres.end(), unfinished)) {
    failure = "not all threads come to the barrier or warp operation where others wait";
  }
}

inline void run(const void* kernel, dim3 grid, int threads, const std::function<void()>& work) {
  static const char* seed = std::getenv("CROWDSEG_EMULATOR_SEED");
  static std::mt19937 random(seed ? std::atoi(seed) : 0);
  fibres.resize(threads);
  warps.resize(threads / kLanes);
  for (Fibre& fibre : fibres) {
    if (!fibre.stack) fibre.stack.reset(new char[kStack]);
  }
  std::vector<int> order(threads);
  std::iota(order.begin(), order.end(), 0);
  body = &work, running = kernel, gridDim = grid, blockDim = dim3(threads);
  failure.clear();
  for (unsigned y = 0; y < grid.y; ++y) {
    for (unsigned x = 0; x < grid.x; ++x) {
      blockIdx = dim3(x, y);
      std::shuffle(order.begin(), order.end(), random);
      run_block(order, random);
      if (!failure.empty()) throw std::runtime_error("emulated kernel: " + failure);
    }
  }
}

}  // namespace emulator

// The language.

#define __syncthreads() ::emulator::meet(::emulator::block, __LINE__)
#define __ballot_sync(mask, vote) ::emulator::ballot(vote, __LINE__)
#define __any_sync(mask, vote) (::emulator::ballot(vote, __LINE__) != 0)
#define __shfl_sync(mask, value, from) ::emulator::shuffle(value, __LINE__, from)
#define __shfl_xor_sync(mask, value, step) \
  ::emulator::shuffle(value, __LINE__, ::emulator::current % ::emulator::kLanes ^ (step))
#define __shfl_up_sync(mask, value, step) \
  ::emulator::shuffle(value, __LINE__, ::emulator::current % ::emulator::kLanes - (step))

inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
inline long long __double_as_longlong(double value) { return static_cast<long long>(::emulator::bits_of(value)); }
inline double __longlong_as_double(long long bits) {
  double value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

template <class T>
T atomicAdd(T* place, T value) {
  const T before = *place;
  *place = before + value;
  return before;
}
template <class T>
T atomicMin(T* place, T value) {
  const T before = *place;
  *place = std::min(before, value);
  return before;
}
template <class T>
T atomicMax(T* place, T value) {
  const T before = *place;
  *place = std::max(before, value);
  return before;
}

// The runtime. There is one device, 0.

enum cudaError_t { cudaSuccess, cudaErrorInvalidDevice };
using cudaStream_t = void*;
struct cudaFuncAttributes {};

inline const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaSuccess ? "no error" : "invalid device ordinal";
}
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int device) { return device == 0 ? cudaSuccess : cudaErrorInvalidDevice; }
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes*, const void*) { return cudaSuccess; }
inline cudaError_t cudaMemsetAsync(void* memory, int byte, std::size_t size, cudaStream_t) {
  return std::memset(memory, byte, size), cudaSuccess;
}
