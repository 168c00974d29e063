// Smoothed centre features and their transpose (xmask section 3).
#include <algorithm>

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/tiling.h"

namespace crowdseg {

namespace {

constexpr std::int64_t kGrain = 512;  // points handed out at a time

}  // namespace

template <class T>
void center_features(Points points, View<const T, 4> embedding, std::int64_t height, std::int64_t width, Taps taps,
                     View<T, 2> out, Threads threads) {
  const BandReader reader(height, width, embedding.size[2], embedding.size[3], taps);
  const std::int64_t channels = embedding.size[1];
  for (std::int64_t image = 0; image < embedding.size[0]; ++image) {
    const std::int64_t first = points.offsets(image);
    parallel_for(points.offsets(image + 1) - first, threads.count, kGrain, [&](std::int64_t index, int) {
      const std::int64_t i = first + index;
      for (std::int64_t d = 0; d < channels; ++d) out(i, d) = 0;
      reader.visit(points.xy(i, 0), points.xy(i, 1), [&](std::int64_t row, std::int64_t column, double weight) {
        const T* cell = &embedding(image, 0, row, column);
        for (std::int64_t d = 0; d < channels; ++d) out(i, d) += static_cast<T>(weight) * cell[d * embedding.stride[1]];
      });
    });
  }
}

template <class T>
void center_features_backward(Points points, View<const T, 2> grad, std::int64_t height, std::int64_t width, Taps taps,
                              View<T, 4> out, Threads threads) {
  const BandReader reader(height, width, out.size[2], out.size[3], taps);
  // An image is one thread's alone: no sum depends on the number of threads.
  parallel_for(out.size[0], threads.count, 1, [&](std::int64_t image, int) {
    for (std::int64_t d = 0; d < out.size[1]; ++d) {
      for (std::int64_t row = 0; row < out.size[2]; ++row) std::fill_n(&out(image, d, row, 0), out.size[3], T{0});
    }
    for (std::int64_t i = points.offsets(image); i < points.offsets(image + 1); ++i) {
      reader.visit(points.xy(i, 0), points.xy(i, 1), [&](std::int64_t row, std::int64_t column, double weight) {
        T* cell = &out(image, 0, row, column);
        for (std::int64_t d = 0; d < out.size[1]; ++d) cell[d * out.stride[1]] += static_cast<T>(weight) * grad(i, d);
      });
    }
  });
}

template void center_features(Points, View<const float, 4>, std::int64_t, std::int64_t, Taps, View<float, 2>, Threads);
template void center_features(Points, View<const double, 4>, std::int64_t, std::int64_t, Taps, View<double, 2>, Threads);
template void center_features_backward(Points, View<const float, 2>, std::int64_t, std::int64_t, Taps, View<float, 4>,
                                       Threads);
template void center_features_backward(Points, View<const double, 2>, std::int64_t, std::int64_t, Taps, View<double, 4>,
                                       Threads);

}  // namespace crowdseg
