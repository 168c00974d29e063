// Energy masks (xmask section 5), for numbers and for SIMD lanes of them.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

// Turns a squared distance into the geometric part of the energy. Radius 0 holds only its own pixel, at distance 0; the
// floor keeps 0 / 0 out and the quotient within a float.
CROWDSEG_HD double energy_shrink(double geometry_weight, double radius) {
  return geometry_weight / larger(radius * radius, 1e-30);
}

template <class V>
CROWDSEG_HD V energy(V feature_distance, V distance2, V shrink) {
  return feature_distance + distance2 * shrink;
}

}  // namespace crowdseg
