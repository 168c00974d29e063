// Nearest-neighbour radii (xmask section 2).
#include <limits>

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/point_grid.h"

namespace crowdseg {

namespace {

// Cells with more points get a grid of their own, so that a dense spot in a wide image does not cost the square of its
// points.
constexpr std::int64_t kCrowded = 64;
constexpr double kFar = std::numeric_limits<double>::infinity();

// The least squared distance from `place` to the points `from` to `to` - 1.
double scan(const Place& place, const Place* from, const Place* to, double best) {
  for (; from < to; ++from) best = smaller(best, squared_length(from->x - place.x, from->y - place.y));
  return best;
}

// Squared distance from each point to its nearest other one.
class NearestOther {
 public:
  // `enough`: a squared distance below which no nearer neighbour is looked for.
  NearestOther(const Place* places, std::int64_t count, double enough) : grid_(places, count), enough_(enough) {}

  // Writes `nearest`, a value per point.
  void run(double* nearest, int threads) const {
    std::vector<double> found(grid_.places.size(), kFar);
    for (std::int64_t cell = 0; cell < grid_.grid.cells(); ++cell) {
      if (crowded(cell)) search_within(cell, found.data(), threads);
    }
    parallel_for(grid_.grid.rows, threads, 32, [&](std::int64_t row, int) { search_row(row, found.data(), nearest); });
  }

 private:
  bool crowded(std::int64_t cell) const {
    return grid_.grid.cells() > 1 && grid_.start[cell + 1] - grid_.start[cell] > kCrowded;
  }

  // The nearest other point within a crowded cell.
  void search_within(std::int64_t cell, double* found, int threads) const {
    const std::int64_t start = grid_.start[cell], size = grid_.start[cell + 1] - start;
    const Place* first = &grid_.places[start];
    const auto same = [&](const Place& place) { return place.x == first->x && place.y == first->y; };
    if (std::all_of(first, first + size, same)) {
      std::fill_n(found + start, size, 0.0);
    } else {
      NearestOther(first, size, enough_).run(found + start, threads);
    }
  }

  void search_row(std::int64_t row, const double* found, double* nearest) const {
    for (std::int64_t column = 0; column < grid_.grid.columns; ++column) {
      const std::int64_t cell = row * grid_.grid.columns + column;
      for (std::int64_t i = grid_.start[cell]; i < grid_.start[cell + 1]; ++i) {
        nearest[grid_.order[i]] = search(i, column, row, crowded(cell) ? found[i] : search_cell(i, cell));
      }
    }
  }

  double search_cell(std::int64_t self, std::int64_t cell) const {
    const Place* places = grid_.places.data();
    const double before = scan(places[self], places + grid_.start[cell], places + self, kFar);
    return scan(places[self], places + self + 1, places + grid_.start[cell + 1], before);
  }

  // Widens the block of cells round a point until nothing outside can be nearer. `best`: found in its own cell.
  double search(std::int64_t self, std::int64_t column, std::int64_t row, double best) const {
    const Place place = grid_.places[self];
    for (std::int64_t ring = 1; best > enough_; ++ring) {
      if (best <= grid_.grid.clearance2(place.x, place.y, column, row, ring - 1)) break;
      grid_.visit_ring(column, row, ring, [&](std::int64_t from, std::int64_t to) {
        best = scan(place, grid_.places.data() + from, grid_.places.data() + to, best);
      });
    }
    return best;
  }

  PointGrid grid_;
  double enough_;
};

}  // namespace

void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Threads threads) {
  for (std::int64_t image = 0; image + 1 < points.offsets.size[0]; ++image) {
    const std::vector<Place> places = places_of(points, image);
    if (places.empty()) continue;
    std::vector<double> nearest(places.size());
    NearestOther(places.data(), places.size(), min_radius * min_radius).run(nearest.data(), threads.count);
    // Limits that cross leave the upper one.
    for (std::size_t i = 0; i < places.size(); ++i) {
      out(points.offsets(image) + i) = std::min(std::max(std::sqrt(nearest[i]), min_radius), max_radius);
    }
  }
}

}  // namespace crowdseg
