// Point-to-region targets: one cell per person, and the person each cell belongs to (xmask section 6).
#include "math/p2r.h"

#include <limits>

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/point_grid.h"

namespace crowdseg {

namespace {

struct Nearest {
  double distance2;
  std::int64_t index;  // -1 for none
};

// The nearest point closer than a limit, the smallest index of equally near ones.
Nearest nearest_point(const PointGrid& points, double x, double y, double limit2) {
  Nearest best{limit2, -1};
  const auto scan = [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const double distance2 = squared_length(points.places[i].x - x, points.places[i].y - y);
      const bool tie = distance2 == best.distance2 && points.order[i] < best.index;
      if (distance2 < best.distance2 || tie) best = {distance2, points.order[i]};
    }
  };
  const std::int64_t column = points.grid.column(x), row = points.grid.row(y);
  const std::int64_t cell = row * points.grid.columns + column;
  scan(points.start[cell], points.start[cell + 1]);
  for (std::int64_t ring = 1; best.distance2 >= points.grid.clearance2(x, y, column, row, ring - 1); ++ring) {
    points.visit_ring(column, row, ring, scan);
  }
  return best;
}

// One image's cells and the points that own them.
template <class T>
class Regions {
 public:
  Regions(const std::vector<Place>& places, const View<const T, 3>& logits, std::int64_t image, const P2R& settings)
      : logits_(logits), image_(image), settings_(settings), columns_(logits.size[2]),
        owned_(logits.size[1] * columns_), region_(places.size(), 0), points_(places.data(), places.size()) {}

  void find_owners(int threads) {
    const double limit2 = settings_.max_radius * settings_.max_radius;
    parallel_for(logits_.size[1], threads, 4, [&](std::int64_t row, int) {
      for (std::int64_t column = 0; column < columns_; ++column) {
        owned_[row * columns_ + column] =
            nearest_point(points_, settings_.center(column), settings_.center(row), limit2);
      }
    });
    for (const Nearest& cell : owned_) {
      if (cell.index >= 0) region_[cell.index] = larger(region_[cell.index], std::sqrt(cell.distance2));
    }
  }

  // Each point's cheapest own cell, the first of equally cheap ones.
  void write(const View<T, 3>& targets, const View<std::int32_t, 3>& owners) const {
    struct Match {
      double cost = std::numeric_limits<double>::infinity();
      std::int64_t cell = -1;
    };
    std::vector<Match> matches(region_.size());
    for (std::size_t cell = 0; cell < owned_.size(); ++cell) {
      const std::int64_t row = cell / columns_, column = cell % columns_, owner = owned_[cell].index;
      targets(image_, row, column) = 0;
      owners(image_, row, column) = static_cast<std::int32_t>(owner + 1);
      if (owner < 0) continue;
      const double cost =
          settings_.cost(std::sqrt(owned_[cell].distance2), region_[owner], logits_(image_, row, column));
      if (cost < matches[owner].cost) matches[owner] = {cost, static_cast<std::int64_t>(cell)};
    }
    for (const Match& match : matches) {
      if (match.cell >= 0) targets(image_, match.cell / columns_, match.cell % columns_) = 1;
    }
  }

 private:
  const View<const T, 3>& logits_;
  const std::int64_t image_;
  const P2R settings_;
  const std::int64_t columns_;
  std::vector<Nearest> owned_;  // per cell
  std::vector<double> region_;  // per point: distance of its farthest cell
  PointGrid points_;
};

template <class T>
void fill(const View<T, 3>& map, std::int64_t image) {
  for (std::int64_t row = 0; row < map.size[1]; ++row) {
    for (std::int64_t column = 0; column < map.size[2]; ++column) map(image, row, column) = 0;
  }
}

}  // namespace

template <class T>
void p2r_targets(Points points, View<const T, 3> logits, std::int64_t stride, double min_radius, double max_radius,
                 double point_cost, double class_cost, View<T, 3> targets, Labels owners, Threads threads) {
  const P2R settings{min_radius, max_radius, point_cost, class_cost, stride};
  for (std::int64_t image = 0; image < logits.size[0]; ++image) {
    const std::vector<Place> places = places_of(points, image);
    if (places.empty()) {
      fill(targets, image);
      fill(owners, image);
      continue;
    }
    Regions<T> regions(places, logits, image, settings);
    regions.find_owners(threads.count);
    regions.write(targets, owners);
  }
}

template void p2r_targets(Points, View<const float, 3>, std::int64_t, double, double, double, double, View<float, 3>,
                          Labels, Threads);
template void p2r_targets(Points, View<const double, 3>, std::int64_t, double, double, double, double, View<double, 3>,
                          Labels, Threads);

}  // namespace crowdseg
