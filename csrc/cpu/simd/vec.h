// SIMD lanes: 32 bytes of floats or doubles (64 with AVX-512), by the compiler's vector extensions; intrinsics only where those fall short,
// with a plain loop beside. Included by the source that is compiled once per instruction set; everything is inlined, so that
// no copy for one set is left for the linker to use in another.
#pragma once

#include <type_traits>

#include "math/host_device.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace crowdseg {

#ifdef __AVX512F__
constexpr int kVectorBytes = 64;
#else
constexpr int kVectorBytes = 32;
#endif

template <class T>
struct Simd;

template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef std::int32_t Int __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
};

template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef std::int64_t Int __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
};

template <class T>
using Vec = typename Simd<T>::Vec;
template <class T>
using Int = typename Simd<T>::Int;  // also what comparing two Vec gives: all bits set where true
template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// As many labels as there are lanes of T.
template <class T>
struct LabelsOf {
  typedef std::int32_t Type __attribute__((vector_size(kLanes<T> * 4)));
  typedef std::int32_t Unaligned __attribute__((vector_size(kLanes<T> * 4), aligned(4), may_alias));
};

template <class T>
CROWDSEG_HD Vec<T> load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
CROWDSEG_HD void store(T* to, Vec<T> lanes) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = lanes;
}

template <class T>
CROWDSEG_HD typename LabelsOf<T>::Type load_labels(const std::int32_t* from) {
  return *reinterpret_cast<const typename LabelsOf<T>::Unaligned*>(from);
}

template <class T>
CROWDSEG_HD void store_labels(std::int32_t* to, typename LabelsOf<T>::Type labels) {
  *reinterpret_cast<typename LabelsOf<T>::Unaligned*>(to) = labels;
}

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

// Rows to columns, of as many vectors as there are lanes.
template <class T>
CROWDSEG_HD void transpose(Vec<T> (&v)[kLanes<T>]) {
  for (int i = 0; i < kLanes<T>; ++i) {
    for (int k = i + 1; k < kLanes<T>; ++k) {
      const T swapped = v[i][k];
      v[i][k] = v[k][i];
      v[k][i] = swapped;
    }
  }
}

#ifdef __AVX512F__

// Pairs, fours, eights, sixteens of rows, each step bringing what belongs to one column closer together.
template <>
CROWDSEG_HD void transpose<float>(Vec<float> (&v)[16]) {
  __m512 pairs[16], fours[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_ps((__m512)v[i], (__m512)v[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_ps((__m512)v[i], (__m512)v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    for (int k = 0; k < 2; ++k) {
      fours[i + 2 * k] = _mm512_shuffle_ps(pairs[i + k], pairs[i + k + 2], 0x44);
      fours[i + 2 * k + 1] = _mm512_shuffle_ps(pairs[i + k], pairs[i + k + 2], 0xEE);
    }
  }
  for (int k = 0; k < 4; ++k) {
    const __m512 even = _mm512_shuffle_f32x4(fours[k], fours[4 + k], 0x88);
    const __m512 odd = _mm512_shuffle_f32x4(fours[k], fours[4 + k], 0xDD);
    const __m512 even2 = _mm512_shuffle_f32x4(fours[8 + k], fours[12 + k], 0x88);
    const __m512 odd2 = _mm512_shuffle_f32x4(fours[8 + k], fours[12 + k], 0xDD);
    v[k] = (Vec<float>)_mm512_shuffle_f32x4(even, even2, 0x88);
    v[4 + k] = (Vec<float>)_mm512_shuffle_f32x4(odd, odd2, 0x88);
    v[8 + k] = (Vec<float>)_mm512_shuffle_f32x4(even, even2, 0xDD);
    v[12 + k] = (Vec<float>)_mm512_shuffle_f32x4(odd, odd2, 0xDD);
  }
}

// All bits set in the lanes whose flag is.
CROWDSEG_HD Int<float> load_flags(const bool* from) {
  return (Int<float>)_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))) != 0;
}

// a * b + c, in one rounding where the processor has that.
CROWDSEG_HD Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
CROWDSEG_HD Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}

CROWDSEG_HD Vec<float> square_root(Vec<float> a) { return (Vec<float>)_mm512_sqrt_ps((__m512)a); }
CROWDSEG_HD Vec<double> square_root(Vec<double> a) { return (Vec<double>)_mm512_sqrt_pd((__m512d)a); }

// The sums of each of the given vectors, as lanes of one: halves, then quarters of four vectors side by side.
CROWDSEG_HD Vec<float> sums(const Vec<float> (&v)[16]) {
  const auto add_blocks = [](__m512 a, __m512 b, auto low, auto high) {
    return _mm512_add_ps(_mm512_shuffle_f32x4(a, b, decltype(low)::value), _mm512_shuffle_f32x4(a, b, decltype(high)::value));
  };
  const auto add_lanes = [](__m512 a, __m512 b, auto low, auto high) {
    return _mm512_add_ps(_mm512_shuffle_ps(a, b, decltype(low)::value), _mm512_shuffle_ps(a, b, decltype(high)::value));
  };
  const std::integral_constant<int, 0x44> first{};
  const std::integral_constant<int, 0xEE> second{};
  const std::integral_constant<int, 0x88> even{};
  const std::integral_constant<int, 0xDD> odd{};
  __m512 rows[4];
  for (int i = 0; i < 4; ++i) {  // four numbers each of vectors i, i + 4, i + 8, i + 12
    rows[i] = add_blocks(add_blocks((__m512)v[i], (__m512)v[i + 4], first, second),
                         add_blocks((__m512)v[i + 8], (__m512)v[i + 12], first, second), even, odd);
  }
  return (Vec<float>)add_lanes(add_lanes(rows[0], rows[1], first, second), add_lanes(rows[2], rows[3], first, second),
                               even, odd);
}

template <class T>
CROWDSEG_HD bool any(Int<T> mask) {
  return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0;
}

#elif defined(__AVX2__)

template <>
CROWDSEG_HD void transpose<float>(Vec<float> (&v)[8]) {
  __m256 pairs[8], quads[8];
  for (int i = 0; i < 8; i += 2) {
    pairs[i] = _mm256_unpacklo_ps((__m256)v[i], (__m256)v[i + 1]);
    pairs[i + 1] = _mm256_unpackhi_ps((__m256)v[i], (__m256)v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    for (int k = 0; k < 2; ++k) {
      quads[i + 2 * k] = _mm256_shuffle_ps(pairs[i + k], pairs[i + k + 2], 0x44);
      quads[i + 2 * k + 1] = _mm256_shuffle_ps(pairs[i + k], pairs[i + k + 2], 0xEE);
    }
  }
  for (int i = 0; i < 4; ++i) {
    v[i] = (Vec<float>)_mm256_permute2f128_ps(quads[i], quads[i + 4], 0x20);
    v[i + 4] = (Vec<float>)_mm256_permute2f128_ps(quads[i], quads[i + 4], 0x31);
  }
}

CROWDSEG_HD Int<float> load_flags(const bool* from) {
  return (Int<float>)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))) != 0;
}

CROWDSEG_HD Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) {
  return (Vec<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
CROWDSEG_HD Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) {
  return (Vec<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}

CROWDSEG_HD Vec<float> square_root(Vec<float> a) { return (Vec<float>)_mm256_sqrt_ps((__m256)a); }
CROWDSEG_HD Vec<double> square_root(Vec<double> a) { return (Vec<double>)_mm256_sqrt_pd((__m256d)a); }

CROWDSEG_HD Vec<float> sums(const Vec<float> (&v)[8]) {
  const auto add = [](Vec<float> a, Vec<float> b) { return (Vec<float>)_mm256_hadd_ps((__m256)a, (__m256)b); };
  const Vec<float> low = add(add(v[0], v[1]), add(v[2], v[3])), high = add(add(v[4], v[5]), add(v[6], v[7]));
  return (Vec<float>)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x20) +
         (Vec<float>)_mm256_permute2f128_ps((__m256)low, (__m256)high, 0x31);
}

template <class T>
CROWDSEG_HD bool any(Int<T> mask) {
  return _mm256_movemask_epi8((__m256i)mask) != 0;
}

#else

CROWDSEG_HD Int<float> load_flags(const bool* from) {
  Int<float> lanes{};
  for (int i = 0; i < kLanes<float>; ++i) lanes[i] = -from[i];
  return lanes;
}

CROWDSEG_HD Vec<float> multiply_add(Vec<float> a, Vec<float> b, Vec<float> c) { return a * b + c; }
CROWDSEG_HD Vec<double> multiply_add(Vec<double> a, Vec<double> b, Vec<double> c) { return a * b + c; }

CROWDSEG_HD Vec<float> square_root(Vec<float> a) {
  for (int i = 0; i < kLanes<float>; ++i) a[i] = __builtin_sqrtf(a[i]);
  return a;
}
CROWDSEG_HD Vec<double> square_root(Vec<double> a) {
  for (int i = 0; i < kLanes<double>; ++i) a[i] = __builtin_sqrt(a[i]);
  return a;
}

CROWDSEG_HD Vec<float> sums(const Vec<float> (&v)[8]) {
  Vec<float> out{};
  for (int i = 0; i < 8; ++i) {
    out[i] = ((v[i][0] + v[i][1]) + (v[i][2] + v[i][3])) + ((v[i][4] + v[i][5]) + (v[i][6] + v[i][7]));
  }
  return out;
}

template <class T>
CROWDSEG_HD bool any(Int<T> mask) {
  auto found = mask[0];
  for (int i = 1; i < kLanes<T>; ++i) found |= mask[i];
  return found != 0;
}

#endif

CROWDSEG_HD Vec<double> sums(const Vec<double> (&v)[kLanes<double>]) {
  Vec<double> out{};
  for (int i = 0; i < kLanes<double>; ++i) {
    out[i] = (v[i][0] + v[i][1]) + (v[i][2] + v[i][3]);
    for (int k = 4; k < kLanes<double>; ++k) out[i] += v[i][k];
  }
  return out;
}

}  // namespace crowdseg
