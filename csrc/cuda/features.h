// The smoothed feature map F (xmask section 3) as sums over cells of the embedding: at points, and back from them.
#pragma once

#include "cuda/tile.h"
#include "math/bands.h"

namespace crowdseg {

// Channels are worked on 64 bytes at a time: a chunk.
template <class T>
constexpr int kChannels = 64 / sizeof(T);

constexpr int chunks_of(std::int64_t channels, int chunk) { return static_cast<int>((channels + chunk - 1) / chunk); }

// F along one axis at many positions: at position i, weights[i * length + k] of cell first[i] + k.
struct Bands {
  std::int32_t* first;
  double* weights;
  Axis axis;

  __device__ int begin(std::int64_t i) const { return first[i]; }
  __device__ int end(std::int64_t i) const { return first[i] + axis.length; }
  __device__ double weight(std::int64_t i, int cell) const {
    const int k = cell - first[i];
    return k >= 0 && k < axis.length ? weights[i * axis.length + k] : 0;
  }
};

struct Bands2 {
  Bands rows, columns;
};

// Bands of all pixels of an image, for an embedding (B, D, h, w).
Bands2 pixel_bands(const Stream& stream, Size image, Size cells, Taps taps);
// Bands of points, or of the pixels nearest to them.
Bands2 point_bands(const Stream& stream, Points points, bool nearest, Size image, Size cells, Taps taps);

// Pixel nearest to a coordinate; halves go to the even one.
__device__ inline std::int64_t nearest_pixel(double position, std::int64_t pixels) {
  return static_cast<std::int64_t>(clamped(rint(position), 0.0, static_cast<double>(pixels - 1)));
}

// The image that a point belongs to.
__device__ inline std::int64_t image_of(const Points& points, std::int64_t point) {
  std::int64_t low = 0, high = points.offsets.size[0] - 1;
  while (low + 1 < high) {
    const std::int64_t middle = (low + high) / 2;
    (points.offsets(middle) <= point ? low : high) = middle;
  }
  return low;
}

// out (N, channels): F at the points, 0 in channels that the embedding does not have.
template <class T>
void read_points(const Stream& stream, Points points, Bands2 bands, View<const T, 4> embedding, View<T, 2> out);

// Gradients of the tiles of a map of pixels, in cells: those of tile t and chunk k are rows x columns x kChannels
// numbers from (t * chunks + k) * size() on, the first being those of the first cell of the tile's bands. None where
// `data` is null.
template <class T>
struct TileGradients {
  T* data = nullptr;
  Tiling tiling{};
  Bands2 pixels{};
  int chunks = 0;
  int rows = 0, columns = 0;

  CROWDSEG_HD std::int64_t size() const { return static_cast<std::int64_t>(rows) * columns * kChannels<T>; }
};

template <class T>
TileGradients<T> take_tile_gradients(const Stream& stream, Tiling tiling, Bands2 pixels, int chunks);

// Sums that do not depend on the order of threads: integers in steps of 2^-60. Their sizes stay below 2.
using Fixed = long long;
constexpr double kFixedOne = 1152921504606846976.0;  // 2^60

// What flows back from the points: numbers (N, D), or sums of tiles (N, channels) where `sums` is not null.
template <class T>
struct PointGradients {
  View<const T, 2> values{};
  const Fixed* sums = nullptr;
  std::int64_t channels = 0;

  __device__ T operator()(std::int64_t point, std::int64_t channel) const {
    return sums ? static_cast<T>(sums[point * channels + channel] / kFixedOne) : values(point, channel);
  }
};

// Fills out (B, D, h, w) with what flows back from points, and from pixels: the transpose of reading F there. Each cell
// sums in a fixed order.
template <class T>
void gather_gradients(const Stream& stream, Points points, Bands2 bands, PointGradients<T> values,
                      TileGradients<T> tiles, View<T, 4> out);

}  // namespace crowdseg
