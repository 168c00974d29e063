// The pull/push loss and its gradient (xmask section 4). Given how many pixels each term of a point has, the loss is a
// weighted sum over pairs of a point and a pixel, so one pass over the tiles makes both.
#include "cuda/tile_features.h"
#include "math/hinge.h"

namespace crowdseg {

namespace {

struct Counts {
  int pull, push;  // pixels of a point
};

template <class T>
struct Work {
  Tiling tiling;
  Circles circles;
  View<const T, 4> embedding;
  View<const std::int32_t, 3> labels;
  View<const bool, 3> valid;
  Hinge<T> hinge;
  Bands2 pixels;
  View<T, 2> centers;  // (N, padded channels), at the points' pixels
  int chunks;
  bool need_gradient;

  int* own_labels;  // (N,) label at the point's pixel, 0 where that says nothing
  Districts districts;
  Counts* counts;                   // (N,)
  int* kept;                        // (B,) points with a pixel to pull
  double* losses;                   // of tiles
  Fixed* center_sums;               // (N, padded channels)
  T *features, *feature_gradients;  // of threads, where there are many channels
  TileGradients<T> tile_gradients;
};

template <class T>
__global__ void find_own_labels(Work<T> work) {
  const Points& points = work.circles.points;
  for (std::int64_t i = global_thread(); i < points.xy.size[0]; i += global_threads()) {
    const std::int64_t image = image_of(points, i);
    const std::int64_t x = nearest_pixel(points.xy(i, 0), work.tiling.width);
    const std::int64_t y = nearest_pixel(points.xy(i, 1), work.tiling.height);
    work.own_labels[i] = work.valid(image, y, x) ? larger(work.labels(image, y, x), 0) : 0;
  }
}

// Whether a point that says something touches a box.
struct Speaks {
  Circles circles;
  const int* own_labels;

  __device__ bool operator()(std::int64_t point, const Box& box) const {
    return own_labels[point] > 0 && circles(point, box);
  }
};

// What the thread's pixel says: its label, or none.
struct Pixel {
  int label;
  bool valid;

  template <class T>
  __device__ Pixel(const Work<T>& work, const Tile& tile) : label(0), valid(false) {
    if (!tile.inside) return;
    label = work.labels(tile.image, tile.y, tile.x);
    valid = work.valid(tile.image, tile.y, tile.x);
  }
};

struct Candidate {
  Circle circle;
  std::int64_t point;
  int label;
};

template <class T>
__global__ void count_pixels(Work<T> work) {
  CROWDSEG_SHARED(List<Candidate>, list);
  for (std::int64_t index = blockIdx.x; index < work.tiling.count(); index += gridDim.x) {
    const Tile tile(work.tiling, index);
    const Pixel pixel(work, tile);
    const auto select = [&](std::int64_t point, Candidate& candidate) {
      candidate = {work.circles[point], point, work.own_labels[point]};
      return candidate.label > 0 && tile.touched_by(candidate.circle);
    };
    for_each_listed(list, work.districts, tile, select, [&](const Candidate& candidate) {
      const bool held = pixel.valid && candidate.circle.contains(tile.x, tile.y);
      const int all = __popc(__ballot_sync(kAllLanes, held));
      const int pulled = __popc(__ballot_sync(kAllLanes, held && pixel.label == candidate.label));
      if (threadIdx.x % kLanes != 0 || all == 0) return;
      Counts& counts = work.counts[candidate.point];
      if (pulled > 0 && atomicAdd(&counts.pull, pulled) == 0) atomicAdd(&work.kept[tile.image], 1);
      if (all > pulled) atomicAdd(&counts.push, all - pulled);
    });
  }
}

// A point that counts, and what one pixel of each term weighs.
template <class T>
struct Person {
  Circle circle;
  std::int64_t point;
  int label;
  T pull, push;
};

template <class T>
__device__ Person<T> person_of(const Work<T>& work, std::int64_t image, std::int64_t point) {
  const auto weight = [&](int count) {
    const double in_image = count > 0 ? 1 / (static_cast<double>(count) * work.kept[image]) : 0;
    return static_cast<T>(in_image) / static_cast<T>(work.tiling.images);
  };
  const Counts counts = work.counts[point];
  return {work.circles[point], point, work.own_labels[point], weight(counts.pull), weight(counts.push)};
}

// Sums each channel over the lanes of a warp. A lane that holds kHeld of them gives half away and takes the other half
// from a partner, until it holds one: 16 shuffles for 16 channels, where one by one takes 80. The sum of channel
// lane * kChannels / kLanes is then in channels[0].
template <int kHeld, class T>
__device__ void sum_over_lanes(T (&channels)[kChannels<T>]) {
  if constexpr (kHeld > 1) {
    constexpr int kHalf = kHeld / 2, kStep = kLanes / 2 * kHeld / kChannels<T>;
    const bool upper = threadIdx.x & kStep;
#pragma unroll
    for (int c = 0; c < kHalf; ++c) {
      const T given = upper ? channels[c] : channels[c + kHalf];
      const T kept = upper ? channels[c + kHalf] : channels[c];
      channels[c] = kept + __shfl_xor_sync(kAllLanes, given, kStep);
    }
    sum_over_lanes<kHalf>(channels);
  } else {
#pragma unroll
    for (int step = kLanes / kChannels<T> / 2; step > 0; step /= 2) {
      channels[0] += __shfl_xor_sync(kAllLanes, channels[0], step);
    }
  }
}

// Adds `slope` (F - c) to the gradient of the thread's pixel and takes it from that of the centre. All lanes come here.
template <class T, int kChunks>
__device__ void add_gradient(const Work<T>& work, std::int64_t point, T slope,
                             const PixelChannels<T, kChunks>& features, PixelChannels<T, kChunks>& gradients) {
  constexpr int kLanesPerChannel = kLanes / kChannels<T>;
  const int lane = threadIdx.x % kLanes;
#pragma unroll
  for (int k = 0; k < features.chunks(); ++k) {
    const T* center = &work.centers(point, k * kChannels<T>);
    T part[kChannels<T>];
#pragma unroll
    for (int c = 0; c < kChannels<T>; ++c) {
      part[c] = slope * (features.value[k][c] - center[c]);
      gradients.value[k][c] += part[c];
    }
    sum_over_lanes<kChannels<T>>(part);
    const Fixed sum = static_cast<Fixed>(-kFixedOne * static_cast<double>(part[0]));
    if (lane % kLanesPerChannel != 0) continue;
    Fixed* place = &work.center_sums[point * work.centers.size[1] + k * kChannels<T> + lane / kLanesPerChannel];
    atomicAdd(reinterpret_cast<unsigned long long*>(place), static_cast<unsigned long long>(sum));
  }
}

struct WarpSums {
  double of[kWarps];
};

// The sum over the block's threads, in a fixed order. All of them come here.
__device__ double sum_over_threads(double value, WarpSums& sums) {
  for (int step = kLanes / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  if (threadIdx.x % kLanes == 0) sums.of[threadIdx.x / kLanes] = value;
  __syncthreads();
  double sum = 0;
  for (int warp = 0; warp < kWarps; ++warp) sum += sums.of[warp];
  return sum;
}

template <class T>
struct Memory {
  Strip<T> strip;
  union {
    List<Person<T>> list;
    SpreadMemory<T> spread;
  };
  WarpSums sums;
};

template <class T, int kChunks>
__global__ void __launch_bounds__(kThreads, 3) pull_and_push(Work<T> work) {
  CROWDSEG_SHARED(Memory<T>, memory);
  PixelChannels<T, kChunks> features(work.features, work.chunks), gradients(work.feature_gradients, work.chunks);
  for (std::int64_t index = blockIdx.x; index < work.tiling.count(); index += gridDim.x) {
    const Tile tile(work.tiling, index);
    const Pixel pixel(work, tile);
    for (int k = 0; k < features.chunks(); ++k) {
      read_pixels(work.embedding, work.pixels, tile, k * kChannels<T>, memory.strip, features.value[k]);
      for (int c = 0; work.need_gradient && c < kChannels<T>; ++c) gradients.value[k][c] = 0;
    }
    T loss = 0;
    const auto select = [&](std::int64_t point, Person<T>& person) {
      if (work.counts[point].pull == 0) return false;
      person = person_of(work, tile.image, point);
      return tile.touched_by(person.circle);
    };
    for_each_listed(memory.list, work.districts, tile, select, [&](const Person<T>& person) {
      const bool held = pixel.valid && person.circle.contains(tile.x, tile.y);
      if (!__any_sync(kAllLanes, held)) return;
      const bool pull = pixel.label == person.label;
      const T distance = distance_to(&work.centers(person.point, 0), features);
      const T slack = work.hinge.slack(pull, distance);
      const T weight = held ? (pull ? person.pull : person.push) : 0;
      if (held) loss += weight * slack;
      if (!work.need_gradient) return;
      const T slope = weight * work.hinge.slope(pull, distance, slack);
      if (__any_sync(kAllLanes, slope != 0)) add_gradient(work, person.point, slope, features, gradients);
    });
    const double sum = sum_over_threads(loss, memory.sums);
    if (threadIdx.x == 0) work.losses[index] = sum;
    for (int k = 0; work.need_gradient && k < gradients.chunks(); ++k) {
      const TileGradients<T>& out = work.tile_gradients;
      T* cells = out.data + (index * work.chunks + k) * out.size();
      spread_pixels(gradients.value[k], work.pixels, tile, memory.strip, memory.spread, cells, out.columns);
    }
  }
}

template <class T>
__global__ void add_losses(const double* losses, std::int64_t count, View<T, 1> loss) {
  CROWDSEG_SHARED(WarpSums, sums);
  double sum = 0;
  for (std::int64_t i = threadIdx.x; i < count; i += kThreads) sum += losses[i];
  sum = sum_over_threads(sum, sums);
  if (threadIdx.x == 0) loss(0) = static_cast<T>(sum);
}

}  // namespace

template <class T>
void pull_push(Points points, Radii radii, View<const T, 4> embedding, View<const std::int32_t, 3> labels,
               View<const bool, 3> valid, Taps taps, double near, double far, double rounding, View<T, 1> loss,
               View<T, 4> grad, Stream stream) {
  use_device(stream);
  const std::int64_t count = points.xy.size[0], images = labels.size[0];
  const Size image{labels.size[1], labels.size[2]}, cells{embedding.size[2], embedding.size[3]};
  const Tiling tiling{images, image.height, image.width};
  const Depth<T> depth(embedding.size[1], tiling);
  const Bands2 centers = point_bands(stream, points, true, image, cells, taps);

  Work<T> work{tiling, {points, radii}, embedding, labels, valid};
  work.hinge = {static_cast<T>(near), static_cast<T>(far), static_cast<T>(rounding)};
  work.pixels = pixel_bands(stream, image, cells, taps);
  work.centers = take_matrix<T>(stream, count, depth.padded());
  work.chunks = depth.chunks;
  work.need_gradient = grad.size[0] > 0;
  work.own_labels = stream.take<int>(count);
  work.counts = take_filled<Counts>(stream, count, 0);
  work.kept = take_filled<int>(stream, images, 0);
  work.losses = stream.take<double>(tiling.count());
  work.features = depth.take(stream);
  if (work.need_gradient) {
    work.center_sums = take_filled<Fixed>(stream, count * depth.padded(), 0);
    work.feature_gradients = depth.take(stream);
    work.tile_gradients = take_tile_gradients<T>(stream, tiling, work.pixels, depth.chunks);
  }
  read_points(stream, points, centers, embedding, work.centers);
  launch(stream, blocks_for(count), find_own_labels<T>, work);
  work.districts = find_districts(stream, tiling, points, Speaks{work.circles, work.own_labels});
  launch(stream, tiling.blocks(), count_pixels<T>, work);
  constexpr int kChunks = kFewChannels / kChannels<T>;
  launch(stream, depth.blocks, depth.few ? pull_and_push<T, kChunks> : pull_and_push<T, 0>, work);
  launch(stream, {1}, add_losses<T>, work.losses, tiling.count(), loss);
  if (work.need_gradient) {
    const PointGradients<T> sums{{}, work.center_sums, depth.padded()};
    gather_gradients(stream, points, centers, sums, work.tile_gradients, grad);
  }
}

template void pull_push(Points, Radii, View<const float, 4>, View<const std::int32_t, 3>, View<const bool, 3>, Taps,
                        double, double, double, View<float, 1>, View<float, 4>, Stream);
template void pull_push(Points, Radii, View<const double, 4>, View<const std::int32_t, 3>, View<const bool, 3>, Taps,
                        double, double, double, View<double, 1>, View<double, 4>, Stream);

}  // namespace crowdseg
