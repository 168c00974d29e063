// Energy masks (xmask section 5): each pixel looks through the circles that touch its tile.
#include "math/energy.h"

#include "cuda/tile_features.h"

namespace crowdseg {

namespace {

template <class T>
struct Claim {
  Circle circle;
  double shrink;
  T threshold;
  int label;
};

template <class T>
struct Work {
  Circles circles;
  Districts districts;
  View<const T, 4> embedding;
  Bands2 pixels;
  View<T, 2> centers;  // (N, padded channels)
  View<const bool, 1> claim_circle;
  double geometry_weight, threshold;
  int chunks;
  T* features;  // of threads, where there are many channels
  Labels labels;

  __device__ Claim<T> claim(std::int64_t point, std::int64_t first) const {
    const T limit = static_cast<T>(claim_circle(point) ? HUGE_VAL : threshold);
    const double shrink = energy_shrink(geometry_weight, circles.radii(point));
    return {circles[point], shrink, limit, static_cast<int>(point - first) + 1};
  }
};

template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 3) label_pixels(Work<T> work) {
  CROWDSEG_SHARED(Strip<T>, strip);
  CROWDSEG_SHARED(List<Claim<T>>, list);
  PixelChannels<T, kChunks> features(work.features, work.chunks);
  for (std::int64_t index = blockIdx.x; index < work.districts.tiling.count(); index += gridDim.x) {
    const Tile tile(work.districts.tiling, index);
    const std::int64_t first = work.circles.points.offsets(tile.image);
    for (int k = 0; k < features.chunks(); ++k) {
      read_pixels(work.embedding, work.pixels, tile, k * kChannels<T>, strip, features.value[k]);
    }
    T least = static_cast<T>(HUGE_VAL);
    int label = 0;
    const auto select = [&](std::int64_t point, Claim<T>& claim) {
      claim = work.claim(point, first);
      return tile.touched_by(claim.circle);
    };
    for_each_listed(list, work.districts, tile, select, [&](const Claim<T>& claim) {
      const double distance2 = claim.circle.distance2(tile.x, tile.y);
      if (distance2 > claim.circle.reach2) return;
      // The product in double: radius 0 makes it 0 times more than a float holds.
      const T geometry = static_cast<T>(distance2 * claim.shrink);
      const T value = distance_to(&work.centers(first + claim.label - 1, 0), features) + geometry;
      if (value < claim.threshold && value < least) {  // a tie stays with the smaller index
        least = value;
        label = claim.label;
      }
    });
    if (tile.inside) work.labels(tile.image, tile.y, tile.x) = label;
  }
}

}  // namespace

template <class T>
void energy(Points points, Radii radii, View<const T, 4> embedding, View<const bool, 1> claim_circle, Taps taps,
            double geometry_weight, double threshold, Labels labels, Stream stream) {
  use_device(stream);
  const Size image{labels.size[1], labels.size[2]}, cells{embedding.size[2], embedding.size[3]};
  const Tiling tiling{labels.size[0], image.height, image.width};
  const Depth<T> depth(embedding.size[1], tiling);
  const View<T, 2> centers = take_matrix<T>(stream, points.xy.size[0], depth.padded());
  read_points(stream, points, point_bands(stream, points, false, image, cells, taps), embedding, centers);
  const Bands2 pixels = pixel_bands(stream, image, cells, taps);
  const Circles circles{points, radii};
  const Districts districts = find_districts(stream, tiling, points, circles);
  const Work<T> work{circles,         districts, embedding,    pixels,             centers, claim_circle,
                     geometry_weight, threshold, depth.chunks, depth.take(stream), labels};
  constexpr int kChunks = kFewChannels / kChannels<T>;
  launch(stream, depth.blocks, depth.few ? label_pixels<T, kChunks> : label_pixels<T, 0>, work);
}

template void energy(Points, Radii, View<const float, 4>, View<const bool, 1>, Taps, double, double, Labels, Stream);
template void energy(Points, Radii, View<const double, 4>, View<const bool, 1>, Taps, double, double, Labels, Stream);

}  // namespace crowdseg
