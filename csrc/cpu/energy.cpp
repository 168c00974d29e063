// Energy masks: pixels to the point whose features and place they resemble most (xmask section 5).
#include "math/energy.h"

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/tiling.h"

namespace crowdseg {

namespace {

// F at every point, (N, depth).
template <class T>
Buffer<T> centers_of(const Points& points, const FeatureMap<T>& map, int threads) {
  Buffer<T> centers(points.xy.size[0] * map.depth);
  for (std::int64_t image = 0; image + 1 < points.offsets.size[0]; ++image) {
    const std::int64_t first = points.offsets(image);
    parallel_for(points.offsets(image + 1) - first, threads, 1024, [&](std::int64_t index, int) {
      const std::int64_t i = first + index;
      map.read(image, points.xy(i, 0), points.xy(i, 1), centers + i * map.depth);
    });
  }
  return centers;
}

}  // namespace

template <class T>
void energy(Points points, Radii radii, View<const T, 4> embedding, View<const bool, 1> claim_circle, Taps taps,
            double geometry_weight, double threshold, Labels labels, Threads threads) {
  const std::int64_t height = labels.size[1], width = labels.size[2];
  const Discs discs(points, radii, height, width, threads.count);
  const TileCircles circles(points, discs, {}, height, width);
  const FeatureMap<T> map(embedding, height, width, taps, threads.count);
  const Buffer<T> centers = centers_of(points, map, threads.count);
  const TileKernels<T> kernels = tile_kernels<T>(map.depth);
  const T low = static_cast<T>(threshold), none = std::numeric_limits<T>::infinity();
  const std::vector<Workspace<T>> memory = workspaces(map, false, threads.count);
  parallel_for(circles.tiles(), threads.count, 4, [&](std::int64_t index, int thread) {
    const std::int64_t image = circles.image(index);
    T* features = memory[thread].features;
    const Tile<T> tile = map.tile(circles.row(index), circles.column(index), memory[thread].scratch);
    TileOwners<T> owners(tile);
    if (!circles.empty(index)) kernels.features(tile, map.image(image), features);
    for (std::int64_t entry = circles.start[index]; entry < circles.start[index + 1]; ++entry) {
      const std::int64_t i = circles.circle[entry];
      const T shrink = static_cast<T>(energy_shrink(geometry_weight, radii(i)));
      const Energy<T> task{points.xy(i, 0), points.xy(i, 1), shrink, claim_circle(i) ? none : low,
                           centers + i * map.depth};
      kernels.energy(tile, discs.patch(i), task, features,
                     static_cast<std::int32_t>(i - points.offsets(image) + 1), owners.best, owners.label);
    }
    owners.write(labels, image);
  });
}

template void energy(Points, Radii, View<const float, 4>, View<const bool, 1>, Taps, double, double, Labels, Threads);
template void energy(Points, Radii, View<const double, 4>, View<const bool, 1>, Taps, double, double, Labels, Threads);

}  // namespace crowdseg
