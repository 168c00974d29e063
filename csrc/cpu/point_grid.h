// Points laid out cell by cell on a uniform grid.
#pragma once

#include <algorithm>
#include <vector>

#include "math/grid.h"
#include "math/view.h"

namespace crowdseg {

struct Place {
  double x, y;
};

inline std::vector<Place> places_of(const Points& points, std::int64_t image) {
  std::vector<Place> places;
  places.reserve(points.offsets(image + 1) - points.offsets(image));
  for (std::int64_t i = points.offsets(image); i < points.offsets(image + 1); ++i) {
    places.push_back({points.xy(i, 0), points.xy(i, 1)});
  }
  return places;
}

class PointGrid {
 public:
  Grid grid;
  std::vector<Place> places;        // row by row of cells
  std::vector<std::int64_t> order;  // where each was; ascending within a cell
  std::vector<std::int64_t> start;  // of each cell in places, and the end

  // At least one point.
  PointGrid(const Place* points, std::int64_t count) : grid(bounds(points, count)), places(count), order(count) {
    std::vector<std::int32_t> cell_of(count);
    start.assign(grid.cells() + 1, 0);
    for (std::int64_t i = 0; i < count; ++i) {
      cell_of[i] = static_cast<std::int32_t>(grid.row(points[i].y) * grid.columns + grid.column(points[i].x));
      ++start[cell_of[i]];
    }
    // Counts become ends; filling backwards turns ends into starts.
    for (std::int64_t cell = 1; cell <= grid.cells(); ++cell) start[cell] += start[cell - 1];
    for (std::int64_t i = count - 1; i >= 0; --i) {
      const std::int64_t slot = --start[cell_of[i]];
      places[slot] = points[i];
      order[slot] = i;
    }
  }

  // visit(from, to) with the runs of `places` in the cells exactly `ring` away from (column, row), ring >= 1.
  template <class Visit>
  void visit_ring(std::int64_t column, std::int64_t row, std::int64_t ring, const Visit& visit) const {
    const std::int64_t left = column - ring, right = column + ring;
    const std::int64_t first = std::max<std::int64_t>(left, 0), last = std::min(right, grid.columns - 1);
    const auto visit_row = [&](std::int64_t y) {  // cells of a row lie side by side
      if (y >= 0 && y < grid.rows) visit(start[y * grid.columns + first], start[y * grid.columns + last + 1]);
    };
    visit_row(row - ring);
    visit_row(row + ring);
    const std::int64_t bottom = std::min(row + ring - 1, grid.rows - 1);
    for (std::int64_t y = std::max<std::int64_t>(row - ring + 1, 0); y <= bottom; ++y) {
      const std::int64_t base = y * grid.columns;
      if (left >= 0) visit(start[base + left], start[base + left + 1]);
      if (right < grid.columns) visit(start[base + right], start[base + right + 1]);
    }
  }

 private:
  static Grid bounds(const Place* points, std::int64_t count) {
    Place low = points[0], high = points[0];
    for (std::int64_t i = 1; i < count; ++i) {
      low = {std::min(low.x, points[i].x), std::min(low.y, points[i].y)};
      high = {std::max(high.x, points[i].x), std::max(high.y, points[i].y)};
    }
    return grid_over(low.x, low.y, high.x, high.y, count);
  }
};

}  // namespace crowdseg
