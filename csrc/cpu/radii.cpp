// Nearest-neighbour radii on a uniform grid (xmask section 2).
#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "math/grid.h"

namespace crowdseg {

namespace {

struct Place {
  double x, y;
};

// Cells with more points get a grid of their own, so that a dense spot in a wide image does not cost the square of its
// points.
constexpr std::int64_t kCrowded = 64;
constexpr std::int64_t kGrain = 2048;
constexpr double kFar = std::numeric_limits<double>::infinity();

Grid grid_of(const Place* places, std::int64_t count) {
  Place low = places[0], high = places[0];
  for (std::int64_t i = 1; i < count; ++i) {
    low = {std::min(low.x, places[i].x), std::min(low.y, places[i].y)};
    high = {std::max(high.x, places[i].x), std::max(high.y, places[i].y)};
  }
  return grid_over(low.x, low.y, high.x, high.y, count);
}

// Squared distance from each point to its nearest other one.
class NearestOther {
 public:
  // `enough`: a squared distance below which no nearer neighbour is looked for.
  NearestOther(const Place* places, std::int64_t count, double enough)
      : grid_(grid_of(places, count)), enough_(enough), count_(count) {
    sort(places);
  }

  // Writes `nearest` (count,).
  void run(double* nearest, int threads) const {
    std::vector<double> found(count_, kFar);
    for (std::int64_t cell = 0; cell < grid_.cells(); ++cell) {
      if (crowded(cell)) search_within(cell, found.data(), threads);
    }
    parallel_for(count_, threads, kGrain, [&](std::int64_t i, int) { nearest[order_[i]] = search(i, found[i]); });
  }

 private:
  // Lays the points out cell by cell.
  void sort(const Place* places) {
    std::vector<std::int32_t> cell_of(count_);
    start_.assign(grid_.cells() + 1, 0);
    for (std::int64_t i = 0; i < count_; ++i) {
      cell_of[i] = static_cast<std::int32_t>(grid_.row(places[i].y) * grid_.columns + grid_.column(places[i].x));
      ++start_[cell_of[i] + 1];
    }
    for (std::int64_t cell = 0; cell < grid_.cells(); ++cell) start_[cell + 1] += start_[cell];
    std::vector<std::int64_t> next(start_.begin(), start_.end() - 1);
    places_.resize(count_);
    order_.resize(count_);
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::int64_t slot = next[cell_of[i]]++;
      places_[slot] = places[i];
      order_[slot] = i;
    }
  }

  bool crowded(std::int64_t cell) const { return count_ > kCrowded && start_[cell + 1] - start_[cell] > kCrowded; }

  // The nearest other point in a crowded cell, for each of its points, in `found` in the order of places_.
  void search_within(std::int64_t cell, double* found, int threads) const {
    const Place* first = &places_[start_[cell]];
    const std::int64_t size = start_[cell + 1] - start_[cell];
    const auto same = [&](const Place& place) { return place.x == first->x && place.y == first->y; };
    if (std::all_of(first, first + size, same)) {
      std::fill_n(found + start_[cell], size, 0.0);
    } else {
      NearestOther(first, size, enough_).run(found + start_[cell], threads);
    }
  }

  // Widens the block of cells round a point until nothing outside can be nearer.
  double search(std::int64_t self, double best) const {
    const Place place = places_[self];
    const std::int64_t column = grid_.column(place.x), row = grid_.row(place.y);
    const std::int64_t own = row * grid_.columns + column;
    if (!crowded(own)) best = scan(start_[own], start_[own + 1], self, best);
    const std::int64_t last = std::max(grid_.columns, grid_.rows);
    for (std::int64_t ring = 1; ring <= last; ++ring) {
      const double clearance = grid_.clearance(place.x, place.y, ring - 1);
      if (best <= std::max(enough_, clearance * clearance)) break;
      best = scan_ring(column, row, ring, self, best);
    }
    return best;
  }

  double scan_ring(std::int64_t column, std::int64_t row, std::int64_t ring, std::int64_t self, double best) const {
    const std::int64_t left = std::max<std::int64_t>(column - ring, 0);
    const std::int64_t right = std::min(column + ring, grid_.columns - 1);
    const std::int64_t bottom = std::min(row + ring, grid_.rows - 1);
    for (std::int64_t y = std::max<std::int64_t>(row - ring, 0); y <= bottom; ++y) {
      const std::int64_t base = y * grid_.columns;
      if (y == row - ring || y == row + ring) {  // cells of a row lie side by side
        best = scan(start_[base + left], start_[base + right + 1], self, best);
        continue;
      }
      if (column - ring >= 0) best = scan(start_[base + left], start_[base + left + 1], self, best);
      if (column + ring < grid_.columns) best = scan(start_[base + right], start_[base + right + 1], self, best);
    }
    return best;
  }

  // The least squared distance from point `self` to points `from` to `to` - 1.
  double scan(std::int64_t from, std::int64_t to, std::int64_t self, double best) const {
    const Place place = places_[self];
    for (std::int64_t i = from; i < to && best > enough_; ++i) {
      const double distance2 = squared_length(places_[i].x - place.x, places_[i].y - place.y);
      if (distance2 < best && i != self) best = distance2;
    }
    return best;
  }

  Grid grid_;
  double enough_;
  std::int64_t count_;
  std::vector<Place> places_;        // cell by cell
  std::vector<std::int64_t> order_;  // where each was
  std::vector<std::int64_t> start_;  // of each cell
};

}  // namespace

void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Threads threads) {
  const std::int64_t images = points.offsets.size[0] - 1;
  for (std::int64_t image = 0; image < images; ++image) {
    const std::int64_t start = points.offsets(image), count = points.offsets(image + 1) - start;
    if (count == 0) continue;
    std::vector<Place> places(count);
    for (std::int64_t i = 0; i < count; ++i) places[i] = {points.xy(start + i, 0), points.xy(start + i, 1)};
    std::vector<double> nearest(count);
    NearestOther(places.data(), count, min_radius * min_radius).run(nearest.data(), threads.count);
    // Limits that cross leave the upper one.
    for (std::int64_t i = 0; i < count; ++i) {
      out(start + i) = std::min(std::max(std::sqrt(nearest[i]), min_radius), max_radius);
    }
  }
}

}  // namespace crowdseg
