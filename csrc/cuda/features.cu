#include "cuda/features.h"

namespace crowdseg {

namespace {

// Where bands are wanted: at values (count,) or, where there are none, at 0, 1, 2...
struct Positions {
  std::int64_t count;
  const double* values = nullptr;
  std::int64_t stride = 0;
  bool nearest = false;  // at the pixel nearest to each value

  __device__ double operator()(std::int64_t i, std::int64_t pixels) const {
    if (!values) return static_cast<double>(i);
    return nearest ? static_cast<double>(nearest_pixel(values[i * stride], pixels)) : values[i * stride];
  }
};

// The first row of blocks makes those of rows, the second those of columns.
__global__ void make_bands(Positions rows, Positions columns, Bands2 made) {
  const Positions& positions = blockIdx.y == 0 ? rows : columns;
  const Bands& bands = blockIdx.y == 0 ? made.rows : made.columns;
  for (std::int64_t i = global_thread(); i < positions.count; i += global_threads()) {
    double* weights = bands.weights + i * bands.axis.length;
    bands.first[i] = static_cast<std::int32_t>(band(bands.axis, positions(i, bands.axis.pixels), weights));
  }
}

Bands take_bands(const Stream& stream, std::int64_t count, std::int64_t pixels, std::int64_t cells, Taps taps) {
  const Axis axis = make_axis(pixels, cells, taps.data, taps.size[0]);
  return {stream.take<std::int32_t>(count), stream.take<double>(count * axis.length), axis};
}

Bands2 bands_at(const Stream& stream, const Positions& rows, const Positions& columns, Size image, Size cells,
                Taps taps) {
  const Bands2 bands{take_bands(stream, rows.count, image.height, cells.height, taps),
                     take_bands(stream, columns.count, image.width, cells.width, taps)};
  launch(stream, {blocks_for(larger(rows.count, columns.count)).x, 2}, make_bands, rows, columns, bands);
  return bands;
}

template <class T>
__global__ void read_at_points(Points points, Bands2 bands, View<const T, 4> embedding, View<T, 2> out) {
  const std::int64_t channels = out.size[1], count = points.xy.size[0] * channels;
  const Bands &rows = bands.rows, &columns = bands.columns;
  for (std::int64_t i = global_thread(); i < count; i += global_threads()) {
    const std::int64_t point = i / channels, channel = i % channels;
    T sum = 0;
    if (channel < embedding.size[1]) {
      const T* cells = &embedding(image_of(points, point), channel, rows.begin(point), columns.begin(point));
      for (int y = 0; y < rows.axis.length; ++y) {
        for (int x = 0; x < columns.axis.length; ++x) {
          const double weight =
              rows.weights[point * rows.axis.length + y] * columns.weights[point * columns.axis.length + x];
          sum += static_cast<T>(weight) * cells[y * embedding.stride[2] + x * embedding.stride[3]];
        }
      }
    }
    out(point, channel) = sum;
  }
}

// Cells that the tile's pixels from `start` to `end` - 1 have in their bands are at most this many.
int most_cells(const Axis& axis) {
  return static_cast<int>(smaller(axis.cells, (kSide - 1) * axis.cells / axis.pixels + 1 + axis.length));
}

// The tiles along one axis whose bands hold a cell: from first on, as long as holds(tile).
struct Holders {
  const Bands& pixels;
  int cell;

  __device__ int first() const {
    const Axis& axis = pixels.axis;
    const std::int64_t pixel = (cell - 1) * axis.pixels / axis.cells - axis.kernel_size / 2 - 1;  // or a later one
    int tile = static_cast<int>(larger<std::int64_t>(pixel, 0) / kSide);
    while (pixels.end(smaller<std::int64_t>(tile * kSide + kSide, axis.pixels) - 1) <= cell) ++tile;
    return tile;
  }
  __device__ bool holds(int tile) const { return tile * kSide < pixels.axis.pixels && begin(tile) <= cell; }
  __device__ int begin(int tile) const { return pixels.begin(tile * kSide); }
};

// Adds what the tiles have for one cell and chunk.
template <class T>
__device__ void add_tiles(const TileGradients<T>& tiles, std::int64_t image, int y, int x, int chunk,
                          T (&sum)[kChannels<T>]) {
  const Holders rows{tiles.pixels.rows, y}, columns{tiles.pixels.columns, x};
  for (int row = rows.first(); rows.holds(row); ++row) {
    for (int column = columns.first(); columns.holds(column); ++column) {
      const std::int64_t tile = (image * tiles.tiling.rows() + row) * tiles.tiling.columns() + column;
      const int cell = (y - rows.begin(row)) * tiles.columns + x - columns.begin(column);
      const T* part = tiles.data + (tile * tiles.chunks + chunk) * tiles.size() + cell * kChannels<T>;
#pragma unroll
      for (int c = 0; c < kChannels<T>; ++c) sum[c] += part[c];
    }
  }
}

struct Reach {
  std::int64_t point;
  int row, column;  // first cells of its bands
};

// Whether the bands of a point hold a cell of a box.
struct Holds {
  Bands2 bands;

  __device__ bool operator()(std::int64_t point, const Box& cells) const {
    return bands.rows.begin(point) < cells.bottom && bands.rows.end(point) > cells.top &&
           bands.columns.begin(point) < cells.right && bands.columns.end(point) > cells.left;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads, 2)
    gather(Districts districts, Bands2 bands, PointGradients<T> values, TileGradients<T> tiles, View<T, 4> out) {
  CROWDSEG_SHARED(List<Reach>, list);
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.y) * kChannels<T>;  // channel
  const int channels = static_cast<int>(smaller<std::int64_t>(kChannels<T>, out.size[1] - first));
  for (std::int64_t index = blockIdx.x; index < districts.tiling.count(); index += gridDim.x) {
    const Tile tile(districts.tiling, index);
    T sum[kChannels<T>] = {};
    const auto select = [&](std::int64_t point, Reach& reach) {
      reach = {point, bands.rows.begin(point), bands.columns.begin(point)};
      return Holds{bands}(point, tile);
    };
    for_each_listed(list, districts, tile, select, [&](const Reach& reach) {
      const int row = tile.y - reach.row, column = tile.x - reach.column;
      const bool held = row >= 0 && row < bands.rows.axis.length && column >= 0 && column < bands.columns.axis.length;
      if (!held || !tile.inside) return;
      const double weight = bands.rows.weight(reach.point, tile.y) * bands.columns.weight(reach.point, tile.x);
#pragma unroll
      for (int c = 0; c < kChannels<T>; ++c) {
        if (c < channels) sum[c] += static_cast<T>(weight) * values(reach.point, first + c);
      }
    });
    if (!tile.inside) continue;
    if (tiles.data) add_tiles(tiles, tile.image, tile.y, tile.x, blockIdx.y, sum);
#pragma unroll
    for (int c = 0; c < kChannels<T>; ++c) {
      if (c < channels) out(tile.image, first + c, tile.y, tile.x) = sum[c];
    }
  }
}

}  // namespace

Bands2 pixel_bands(const Stream& stream, Size image, Size cells, Taps taps) {
  return bands_at(stream, {image.height}, {image.width}, image, cells, taps);
}

Bands2 point_bands(const Stream& stream, Points points, bool nearest, Size image, Size cells, Taps taps) {
  const View<const double, 2>& xy = points.xy;
  const Positions x{xy.size[0], xy.data, xy.stride[0], nearest};
  const Positions y{xy.size[0], xy.data + xy.stride[1], xy.stride[0], nearest};
  return bands_at(stream, y, x, image, cells, taps);
}

template <class T>
void read_points(const Stream& stream, Points points, Bands2 bands, View<const T, 4> embedding, View<T, 2> out) {
  launch(stream, blocks_for(out.size[0] * out.size[1]), read_at_points<T>, points, bands, embedding, out);
}

template <class T>
TileGradients<T> take_tile_gradients(const Stream& stream, Tiling tiling, Bands2 pixels, int chunks) {
  TileGradients<T> tiles{nullptr, tiling, pixels, chunks};
  tiles.rows = most_cells(pixels.rows.axis);
  tiles.columns = most_cells(pixels.columns.axis);
  tiles.data = stream.take<T>(tiling.count() * chunks * tiles.size());
  return tiles;
}

template <class T>
void gather_gradients(const Stream& stream, Points points, Bands2 bands, PointGradients<T> values,
                      TileGradients<T> tiles, View<T, 4> out) {
  const Tiling cells{out.size[0], out.size[2], out.size[3]};
  const Blocks blocks{cells.blocks().x, chunks_of(out.size[1], kChannels<T>)};
  const Districts districts = find_districts(stream, cells, points, Holds{bands});
  launch(stream, blocks, gather<T>, districts, bands, values, tiles, out);
}

template void read_points(const Stream&, Points, Bands2, View<const float, 4>, View<float, 2>);
template void read_points(const Stream&, Points, Bands2, View<const double, 4>, View<double, 2>);
template TileGradients<float> take_tile_gradients(const Stream&, Tiling, Bands2, int);
template TileGradients<double> take_tile_gradients(const Stream&, Tiling, Bands2, int);
template void gather_gradients(const Stream&, Points, Bands2, PointGradients<float>, TileGradients<float>,
                               View<float, 4>);
template void gather_gradients(const Stream&, Points, Bands2, PointGradients<double>, TileGradients<double>,
                               View<double, 4>);

}  // namespace crowdseg
