// Floats as integers of the same order, so that integer atomics find their minimum whatever the order of threads.
#pragma once

#include "cuda/launch.h"

namespace crowdseg {

using Ordered = unsigned long long;

constexpr Ordered kSignBit = 1ull << 63;

__device__ inline Ordered ordered(double value) {
  const Ordered bits = static_cast<Ordered>(__double_as_longlong(value));
  return bits & kSignBit ? ~bits : bits | kSignBit;
}

__device__ inline double restored(Ordered value) {
  const Ordered bits = value & kSignBit ? value & ~kSignBit : ~value;
  return __longlong_as_double(static_cast<long long>(bits));
}

}  // namespace crowdseg
