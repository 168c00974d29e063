// The terms of the pull/push loss (xmask section 4), for numbers and for SIMD lanes of them.
#pragma once

#include "math/lanes.h"

namespace crowdseg {

// Where pulling ends and where pushing ends, as distances of features. Below `rounding`, F - c has no direction: two
// ways of computing the same F differ by that much.
template <class V>
struct Hinge {
  V near, far, rounding;

  // max(0, distance - near) for a pixel to pull, max(0, far - distance) for one to push.
  template <class Mask>
  CROWDSEG_HD V slack(Mask pull, V distance) const {
    const V value = select(pull, distance - near, far - distance);
    return select(value < V{}, V{}, value);  // what is no number stays none
  }

  // The slack's derivative in F is this times (F - c).
  template <class Mask>
  CROWDSEG_HD V slope(Mask pull, V distance, V slack) const {
    const V slope = select(pull, V{} + 1, V{} - 1) / distance;
    return select((slack > V{}) & (distance > rounding), slope, V{});
  }
};

}  // namespace crowdseg
