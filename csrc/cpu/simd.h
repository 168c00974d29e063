// SIMD lanes: 32 bytes of floats or doubles, by the compiler's vector extensions. Included by the sources that are compiled
// once per instruction set; everything is inlined, so that no copy for one set is left for the linker to use in another.
#pragma once

#include <cstring>

#include "math/host_device.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace crowdseg {

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(32)));
  typedef std::int32_t Int __attribute__((vector_size(32)));
  typedef float Unaligned __attribute__((vector_size(32), aligned(4), may_alias));
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(32)));
  typedef std::int64_t Int __attribute__((vector_size(32)));
  typedef double Unaligned __attribute__((vector_size(32), aligned(8), may_alias));
};

template <class T>
using Vec = typename Simd<T>::Vec;
template <class T>
using Int = typename Simd<T>::Int;  // also what comparing two Vec gives
template <class T>
constexpr int kLanes = 32 / sizeof(T);

template <class T>
CROWDSEG_HD Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
CROWDSEG_HD void store(T* to, Vec<T> lanes) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = lanes;
}

CROWDSEG_HD Int<float> load(const std::int32_t* from) {
  Int<float> lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
CROWDSEG_HD Int<double> load(const std::int64_t* from) {
  Int<double> lanes;
  std::memcpy(&lanes, from, sizeof lanes);
  return lanes;
}
CROWDSEG_HD void store(std::int32_t* to, Int<float> lanes) { std::memcpy(to, &lanes, sizeof lanes); }
CROWDSEG_HD void store(std::int64_t* to, Int<double> lanes) { std::memcpy(to, &lanes, sizeof lanes); }

template <class T>
CROWDSEG_HD Vec<T> splat(T value) {
  return value - Vec<T>{};
}

// 0, 1, 2, ...
template <class T>
CROWDSEG_HD Int<T> iota() {
  Int<T> lanes{};
  for (int i = 0; i < kLanes<T>; ++i) lanes[i] = i;
  return lanes;
}

CROWDSEG_HD Vec<float> select(Int<float> choose, Vec<float> a, Vec<float> b) { return choose ? a : b; }
CROWDSEG_HD Vec<double> select(Int<double> choose, Vec<double> a, Vec<double> b) { return choose ? a : b; }

// Labels, one per lane.
CROWDSEG_HD Int<float> load_labels(const std::int32_t* from, float) { return load(from); }
CROWDSEG_HD Int<double> load_labels(const std::int32_t* from, double) {
  return Int<double>{from[0], from[1], from[2], from[3]};
}

// All bits set in the lanes whose flag is.
CROWDSEG_HD Int<float> load_flags(const bool* from) {
#ifdef __AVX2__
  std::int64_t bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return (Int<float>)_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes)) != 0;
#else
  Int<float> lanes;
  for (int i = 0; i < kLanes<float>; ++i) lanes[i] = -from[i];
  return lanes;
#endif
}

// a * b + c, in one rounding where the processor has it.
CROWDSEG_HD Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
#ifdef __FMA__
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
CROWDSEG_HD Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) {
#ifdef __FMA__
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  return a * b + c;
#endif
}

CROWDSEG_HD Vec<float> square_root(Vec<float> a) {
#ifdef __AVX2__
  return (Vec<float>)_mm256_sqrt_ps((__m256)a);
#else
  for (int i = 0; i < kLanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
#endif
}
CROWDSEG_HD Vec<double> square_root(Vec<double> a) {
#ifdef __AVX2__
  return (Vec<double>)_mm256_sqrt_pd((__m256d)a);
#else
  for (int i = 0; i < kLanes<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
#endif
}

// The sums of each of the given vectors, as lanes of one.
CROWDSEG_HD Vec<float> sums(const Vec<float> (&v)[8]) {
#ifdef __AVX2__
  const auto add = [](Vec<float> a, Vec<float> b) { return (Vec<float>)_mm256_hadd_ps((__m256)a, (__m256)b); };
  const Vec<float> low = add(add(v[0], v[1]), add(v[2], v[3])), high = add(add(v[4], v[5]), add(v[6], v[7]));
  return (Vec<float>)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x20) +
         (Vec<float>)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x31);
#else
  Vec<float> out;
  for (int i = 0; i < 8; ++i) {
    out[i] = ((v[i][0] + v[i][1]) + (v[i][2] + v[i][3])) + ((v[i][4] + v[i][5]) + (v[i][6] + v[i][7]));
  }
  return out;
#endif
}
CROWDSEG_HD Vec<double> sums(const Vec<double> (&v)[4]) {
  Vec<double> out;
  for (int i = 0; i < 4; ++i) out[i] = (v[i][0] + v[i][1]) + (v[i][2] + v[i][3]);
  return out;
}

template <class T>
CROWDSEG_HD bool any(Int<T> mask) {
#ifdef __AVX2__
  return _mm256_movemask_epi8((__m256i)mask) != 0;
#else
  auto found = mask[0];
  for (int i = 1; i < kLanes<T>; ++i) found |= mask[i];
  return found != 0;
#endif
}

}  // namespace crowdseg
