// Circles round points (xmask section 2).
#pragma once

#include "math/host_device.h"

namespace crowdseg {

// A neighbour's head lies exactly on the rim; the slack makes every precision count it as inside.
constexpr double kRimSlack = 1e-6;

CROWDSEG_HD double reach_squared(double radius) { return radius * radius * (1 + kRimSlack); }

struct Circle {
  double x, y;
  double reach2;  // reach_squared(radius)

  CROWDSEG_HD double distance2(double column, double row) const { return squared_length(column - x, row - y); }
  CROWDSEG_HD bool contains(double column, double row) const { return distance2(column, row) <= reach2; }
};

// Pixels first to last - 1 of one axis.
struct Span {
  std::int32_t first, last;
};

// The pixels of one axis within reach of a centre, one too many at most on either side; cut to [0, pixels).
CROWDSEG_HD Span reach_span(double center, double reach, std::int64_t pixels) {
  const double limit = static_cast<double>(pixels);
  return {static_cast<std::int32_t>(clamped(std::ceil(center - reach) - 1, 0.0, limit)),
          static_cast<std::int32_t>(clamped(std::floor(center + reach) + 2, 0.0, limit))};
}

}  // namespace crowdseg
