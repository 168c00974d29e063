// A uniform grid over the bounding box of n points, about one point per cell.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

struct Grid {
  double left, top, cell;
  std::int64_t columns, rows;

  CROWDSEG_HD std::int64_t column(double x) const {
    return smaller(static_cast<std::int64_t>((x - left) / cell), columns - 1);
  }
  CROWDSEG_HD std::int64_t row(double y) const { return smaller(static_cast<std::int64_t>((y - top) / cell), rows - 1); }
  CROWDSEG_HD std::int64_t cells() const { return columns * rows; }

  // From a point to the rim of the block of cells up to `ring` cells away from its own: no point outside is nearer. The
  // factor pays for the rounding of `column` and `row`.
  CROWDSEG_HD double clearance(double x, double y, std::int64_t ring) const {
    const double dx = x - left - column(x) * cell, dy = y - top - row(y) * cell;
    const double inner = smaller(smaller(dx, cell - dx), smaller(dy, cell - dy));
    return (ring * cell + inner) * (1 - 1e-9);
  }
};

// The grid over a box; at most max_grid_cells(n) cells, whatever its shape.
CROWDSEG_HD Grid grid_over(double left, double top, double right, double bottom, std::int64_t n) {
  const double width = right - left, height = bottom - top;
  double cell = larger(std::sqrt(width / n * height), larger(width, height) / n);
  if (!(cell > 0)) cell = 1;  // all points in one place
  return {left, top, cell, static_cast<std::int64_t>(width / cell) + 1, static_cast<std::int64_t>(height / cell) + 1};
}

CROWDSEG_HD std::int64_t max_grid_cells(std::int64_t n) { return 3 * n + 3; }

}  // namespace crowdseg
