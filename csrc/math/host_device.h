// What host and device code need to share arithmetic. Nothing under csrc includes a torch header.
#pragma once

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__) || defined(CROWDSEG_EMULATED)
#define CROWDSEG_HD __host__ __device__ __forceinline__
#else
// Always inlined, so that no copy compiled for AVX2 is left for the linker to hand to everyone.
#define CROWDSEG_HD inline __attribute__((always_inline))
#endif

namespace crowdseg {

template <class T>
CROWDSEG_HD T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
CROWDSEG_HD T larger(T a, T b) {
  return a < b ? b : a;
}

template <class T>
CROWDSEG_HD T clamped(T value, T low, T high) {
  return smaller(larger(value, low), high);
}

// dx^2 + dy^2, both products rounded before they are added, as torch does: a fused multiply-add would let the order of x
// and y decide ties. Host code is compiled with -ffp-contract=off.
CROWDSEG_HD double squared_length(double dx, double dy) {
#ifdef __CUDA_ARCH__
  return __dadd_rn(__dmul_rn(dx, dx), __dmul_rn(dy, dy));
#else
  return dx * dx + dy * dy;
#endif
}

}  // namespace crowdseg
