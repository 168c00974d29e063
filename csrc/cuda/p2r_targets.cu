// Point-to-region targets (xmask section 6): owners of cells, radii of regions, cheapest cells. What cells say of their
// owner meets in integer minima and maxima, which do not depend on the order of threads.
#include "cuda/ordered.h"
#include "cuda/tile.h"
#include "math/p2r.h"

namespace crowdseg {

namespace {

struct Claim {
  double x, y;
  int owner;
};

// Of each point.
struct Regions {
  Ordered* radius;            // distance of its farthest own cell
  Ordered* cost;              // of its cheapest own cell
  unsigned long long* match;  // the first of those
};

// Whether a point is near enough to own a cell of a box.
struct Reaches {
  Points points;
  P2R rule;

  __device__ bool operator()(std::int64_t point, const Box& cells) const {
    const double x = points.xy(point, 0), y = points.xy(point, 1);
    const double dx = x - clamped(x, rule.center(cells.left), rule.center(cells.right - 1));
    const double dy = y - clamped(y, rule.center(cells.top), rule.center(cells.bottom - 1));
    return squared_length(dx, dy) < rule.max_radius * rule.max_radius;
  }
};

template <class T>
struct Work {
  Tiling tiling;  // of cells
  Points points;
  Districts districts;
  View<const T, 3> logits;
  P2R rule;
  View<T, 3> targets;
  Labels owners;
  Regions regions;
};

// Calls visit(tile) for each tile of the block, all its threads together.
template <class T, class Visit>
__device__ void for_each_tile(const Work<T>& work, const Visit& visit) {
  for (std::int64_t tile = blockIdx.x; tile < work.tiling.count(); tile += gridDim.x) visit(Tile(work.tiling, tile));
}

template <class T>
__global__ void find_owners(Work<T> work) {
  CROWDSEG_SHARED(List<Claim>, list);
  for_each_tile(work, [&](const Tile& tile) {
    const std::int64_t first = work.points.offsets(tile.image);
    const double x = work.rule.center(tile.x), y = work.rule.center(tile.y);
    double least = work.rule.max_radius * work.rule.max_radius;
    int owner = 0;
    const auto select = [&](std::int64_t point, Claim& claim) {
      claim = {work.points.xy(point, 0), work.points.xy(point, 1), static_cast<int>(point - first) + 1};
      return Reaches{work.points, work.rule}(point, tile);
    };
    for_each_listed(list, work.districts, tile, select, [&](const Claim& claim) {
      const double distance2 = squared_length(x - claim.x, y - claim.y);
      if (distance2 < least) {  // a tie stays with the smaller index
        least = distance2;
        owner = claim.owner;
      }
    });
    if (!tile.inside) return;
    work.owners(tile.image, tile.y, tile.x) = owner;
    if (owner > 0) atomicMax(&work.regions.radius[first + owner - 1], ordered(std::sqrt(least)));
  });
}

// Calls visit(tile, point, cost, cell) for each cell that has an owner; cost as `ordered`, cell within the image.
template <class T, class Visit>
__device__ void for_each_owned(const Work<T>& work, const Visit& visit) {
  for_each_tile(work, [&](const Tile& tile) {
    const int owner = tile.inside ? work.owners(tile.image, tile.y, tile.x) : 0;
    if (owner == 0) return;
    const std::int64_t point = work.points.offsets(tile.image) + owner - 1;
    const double dx = work.rule.center(tile.x) - work.points.xy(point, 0);
    const double dy = work.rule.center(tile.y) - work.points.xy(point, 1);
    const double cost = work.rule.cost(std::sqrt(squared_length(dx, dy)), restored(work.regions.radius[point]),
                                       work.logits(tile.image, tile.y, tile.x));
    if (!(cost < HUGE_VAL)) return;  // infinite or NaN: nobody's cheapest
    visit(tile, point, ordered(cost), static_cast<unsigned long long>(tile.y * work.tiling.width + tile.x));
  });
}

template <class T>
__global__ void find_least_costs(Work<T> work) {
  for_each_owned(work, [&](const Tile&, std::int64_t point, Ordered cost, unsigned long long) {
    atomicMin(&work.regions.cost[point], cost);
  });
}

template <class T>
__global__ void find_matches(Work<T> work) {
  for_each_owned(work, [&](const Tile&, std::int64_t point, Ordered cost, unsigned long long cell) {
    if (cost == work.regions.cost[point]) atomicMin(&work.regions.match[point], cell);
  });
}

template <class T>
__global__ void write_targets(Work<T> work) {
  for_each_tile(work, [&](const Tile& tile) {
    if (tile.inside) work.targets(tile.image, tile.y, tile.x) = 0;
  });
  for_each_owned(work, [&](const Tile& tile, std::int64_t point, Ordered, unsigned long long cell) {
    if (cell == work.regions.match[point]) work.targets(tile.image, tile.y, tile.x) = 1;
  });
}

}  // namespace

template <class T>
void p2r_targets(Points points, View<const T, 3> logits, std::int64_t stride, double min_radius, double max_radius,
                 double point_cost, double class_cost, View<T, 3> targets, Labels owners, Stream stream) {
  use_device(stream);
  const std::int64_t count = points.xy.size[0];
  const Tiling tiling{logits.size[0], logits.size[1], logits.size[2]};
  const Regions regions{take_filled<Ordered>(stream, count, 0), take_filled<Ordered>(stream, count, 0xff),
                        take_filled<unsigned long long>(stream, count, 0xff)};
  const P2R rule{min_radius, max_radius, point_cost, class_cost, stride};
  const Districts districts = find_districts(stream, tiling, points, Reaches{points, rule});
  const Work<T> work{tiling, points, districts, logits, rule, targets, owners, regions};
  launch(stream, tiling.blocks(), find_owners<T>, work);
  launch(stream, tiling.blocks(), find_least_costs<T>, work);
  launch(stream, tiling.blocks(), find_matches<T>, work);
  launch(stream, tiling.blocks(), write_targets<T>, work);
}

template void p2r_targets(Points, View<const float, 3>, std::int64_t, double, double, double, double, View<float, 3>,
                          Labels, Stream);
template void p2r_targets(Points, View<const double, 3>, std::int64_t, double, double, double, double, View<double, 3>,
                          Labels, Stream);

}  // namespace crowdseg
