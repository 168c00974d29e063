// A uniform grid over the bounding box of n points, about one point per cell.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

struct Grid {
  double left, top, cell, per_pixel;  // per_pixel = 1 / cell
  std::int64_t columns, rows;

  CROWDSEG_HD std::int64_t cells() const { return columns * rows; }

  // The column or row of a position, the nearest one for positions outside.
  CROWDSEG_HD std::int64_t column(double x) const { return index((x - left) * per_pixel, columns); }
  CROWDSEG_HD std::int64_t row(double y) const { return index((y - top) * per_pixel, rows); }

  // A squared distance: no point of the grid outside the block of cells up to `ring` away from (column, row) is nearer to
  // (x, y) than that; infinity where the block covers the grid. The factor pays for the rounding of column() and row().
  CROWDSEG_HD double clearance2(double x, double y, std::int64_t column, std::int64_t row, std::int64_t ring) const {
    const double west = column - ring > 0 ? x - (left + (column - ring) * cell) : HUGE_VAL;
    const double east = column + ring + 1 < columns ? left + (column + ring + 1) * cell - x : HUGE_VAL;
    const double north = row - ring > 0 ? y - (top + (row - ring) * cell) : HUGE_VAL;
    const double south = row + ring + 1 < rows ? top + (row + ring + 1) * cell - y : HUGE_VAL;
    const double across = larger(smaller(west, east), 0.0), along = larger(smaller(north, south), 0.0);
    const double dx = beyond(x - left, columns), dy = beyond(y - top, rows);
    return smaller(across * across + dy * dy, along * along + dx * dx) * (1 - 1e-9);
  }

 private:
  static CROWDSEG_HD std::int64_t index(double position, std::int64_t count) {
    return static_cast<std::int64_t>(clamped(position, 0.0, static_cast<double>(count - 1)));
  }

  // How far a position lies beyond the grid's extent along an axis.
  CROWDSEG_HD double beyond(double position, std::int64_t count) const {
    return larger(larger(-position, position - count * cell), 0.0);
  }
};

// The grid over a box of n points; at most max_grid_cells(n, 1) cells, whatever its shape.
CROWDSEG_HD Grid grid_over(double left, double top, double right, double bottom, std::int64_t n) {
  const double width = right - left, height = bottom - top;
  double cell = larger(std::sqrt(width / n * height), larger(width, height) / n);
  if (!(cell > 0 && 1 / cell < HUGE_VAL)) cell = 1;  // all points in one place
  return {left, top, cell, 1 / cell, static_cast<std::int64_t>(width / cell) + 1, static_cast<std::int64_t>(height / cell) + 1};
}

// Of n points in so many images, with a grid each.
CROWDSEG_HD std::int64_t max_grid_cells(std::int64_t n, std::int64_t images) { return 3 * (n + images); }

}  // namespace crowdseg
