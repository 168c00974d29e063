// What each CPU driver takes. Points are grouped by image; results for points come in that order.
#pragma once

#include "math/view.h"

namespace crowdseg {

struct Threads {
  int count;
};

// out (N,): distance to the nearest other point of the image, clamped.
void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Threads threads);

}  // namespace crowdseg
