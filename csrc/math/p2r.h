// Point-to-region targets (xmask section 6). Ties go to the smaller index throughout.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

struct P2R {
  double min_radius, max_radius;  // pixels
  double point_cost, class_cost;
  std::int64_t stride;  // pixels per cell

  // Pixel coordinate of a cell's centre along one axis.
  CROWDSEG_HD double center(std::int64_t cell) const { return cell * stride + (stride - 1) / 2.0; }

  // `region`: distance of the point's farthest own cell.
  CROWDSEG_HD double cost(double distance, double region, double logit) const {
    return point_cost * distance / clamped(region, min_radius, max_radius) - class_cost * logit;
  }
};

}  // namespace crowdseg
