// What the drivers that go over an image tile by tile share: circles as spans of columns, the circles of each tile, and the
// bands of each axis.
#pragma once

#include <algorithm>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/tile_kernels.h"
#include "math/bands.h"
#include "math/view.h"

namespace crowdseg {

// Uninitialised numbers, freed at the end. All begin at a page: a processor that compares the last 12 bits of addresses
// then never takes what a tile's loops read for what they have just written elsewhere.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::int64_t size)
      : size_(size), data_(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t{kPage}))) {}
  operator T*() const { return data_.get(); }
  void clear() { std::fill_n(data_.get(), size_, T{0}); }

 private:
  static constexpr std::size_t kPage = 4096;
  struct Free {
    void operator()(T* data) const { ::operator delete(data, std::align_val_t{kPage}); }
  };

  std::int64_t size_;
  std::unique_ptr<T, Free> data_;
};

// The pixels of each circle, row by row.
class Discs {
 public:
  Discs(const Points& points, const View<const double, 1>& radii, std::int64_t height, std::int64_t width, int threads);

  Patch patch(std::int64_t circle) const {
    const Box& box = boxes_[circle];
    return {spans_.data() + box.spans, box.rows.first, box.rows.last - box.rows.first};
  }
  // Asks for a patch that is soon to be used.
  void prefetch(std::int64_t circle) const { __builtin_prefetch(spans_.data() + boxes_[circle].spans); }
  // Rows and columns that hold the circle's pixels.
  Span rows(std::int64_t circle) const { return boxes_[circle].rows; }
  Span columns(std::int64_t circle) const { return boxes_[circle].columns; }

 private:
  struct Box {
    Span rows, columns;
    std::int64_t spans;  // where its rows' spans begin
  };

  std::vector<Box> boxes_;
  std::vector<Span> spans_;
};

// The images cut into tiles, and which circles touch each: tile (image, row, column) has entries
// start[t] to start[t + 1], t = (image * rows + row) * columns + column, circles ascending.
struct TileCircles {
  std::int64_t images, rows, columns;
  std::vector<std::int64_t> start;
  std::vector<std::int64_t> circle;

  std::int64_t tiles() const { return images * rows * columns; }
  std::int64_t image(std::int64_t tile) const { return tile / (rows * columns); }
  std::int64_t row(std::int64_t tile) const { return tile / columns % rows; }
  std::int64_t column(std::int64_t tile) const { return tile % columns; }
  bool empty(std::int64_t tile) const { return start[tile] == start[tile + 1]; }

  // `keep`: (N,) whether a circle is listed at all; empty for all.
  TileCircles(const Points& points, const Discs& discs, const std::vector<char>& keep, std::int64_t height,
              std::int64_t width);
};

// The tile at a row and a column of an image, without a feature map.
template <class T>
Tile<T> tile_at(std::int64_t row, std::int64_t column, std::int64_t height, std::int64_t width) {
  Tile<T> tile{};
  tile.top = row * kTile;
  tile.left = column * kTile;
  tile.height = static_cast<int>(smaller<std::int64_t>(kTile, height - tile.top));
  tile.width = static_cast<int>(smaller<std::int64_t>(kTile, width - tile.left));
  return tile;
}

// Numbers of a tile's array, `depth` per pixel: vectors may reach past its last pixel.
inline std::int64_t tile_numbers(int depth = 1) { return (kTile * kTile + kPadding) * depth; }

// Who owns each pixel of a tile so far, and at what cost.
template <class T>
class TileOwners {
 public:
  alignas(64) T best[kTile * kTile + kPadding];
  alignas(64) std::int32_t label[kTile * kTile + kPadding];  // 0 for nobody

  explicit TileOwners(const Tile<T>& tile) : tile_(tile) {
    std::fill_n(best, tile.height * kTile + kPadding, std::numeric_limits<T>::infinity());
    std::fill_n(label, tile.height * kTile + kPadding, 0);
  }

  // Into the tile's part of a map (B, H, W).
  void write(const View<std::int32_t, 3>& labels, std::int64_t image) const {
    for (int y = 0; y < tile_.height; ++y) {
      std::copy_n(label + y * kTile, tile_.width, &labels(image, tile_.top + y, tile_.left));
    }
  }

 private:
  const Tile<T>& tile_;
};

// The bands of all pixels of one axis.
template <class T>
class AxisBands {
 public:
  AxisBands(std::int64_t pixels, std::int64_t cells, const View<const double, 1>& taps);

  const Axis axis;
  BandTable<T> table() const {
    return {first_.data(), weights_.data(), axis.length, pixels_.data(), cell_start_.data(), cell_weights_.data()};
  }
  // F at `position` as the sum of weights[k] times cell first + k, k < axis.length; returns first.
  std::int64_t at(double position, T* weights) const;
  // Cells that the bands of pixels from to to - 1 hold: first, and one after the last.
  Span cells(std::int64_t from, std::int64_t to) const { return {first_[from], first_[to - 1] + axis.length}; }

 private:
  std::vector<std::int32_t> first_;
  std::vector<Span> pixels_;
  std::vector<std::int64_t> cell_start_;
  std::vector<T> weights_, cell_weights_;
};

// Reads F at any position: which cells of the embedding, and with what weights.
class BandReader {
 public:
  BandReader(std::int64_t height, std::int64_t width, std::int64_t rows, std::int64_t columns,
             const View<const double, 1>& taps)
      : rows_(make_axis(height, rows, taps.data, taps.size[0])),
        columns_(make_axis(width, columns, taps.data, taps.size[0])) {}

  // Calls visit(row, column, weight) for each cell that F at (x, y) is a sum of.
  template <class Visit>
  void visit(double x, double y, const Visit& visit) const {
    static thread_local std::vector<double> along, across;
    along.resize(rows_.length);
    across.resize(columns_.length);
    const std::int64_t top = band(rows_, y, along.data()), left = band(columns_, x, across.data());
    for (int row = 0; row < rows_.length; ++row) {
      for (int column = 0; column < columns_.length; ++column) {
        visit(top + row, left + column, along[row] * across[column]);
      }
    }
  }

 private:
  Axis rows_, columns_;
};

// The embedding (B, D, h, w) and the bands that make F from it; cells are `depth` numbers, D padded with zeros.
template <class T>
class FeatureMap {
 public:
  FeatureMap(const View<const T, 4>& embedding, std::int64_t height, std::int64_t width,
             const View<const double, 1>& taps, int threads);

  const T* image(std::int64_t index) const { return cells_ + index * image_size(); }
  std::int64_t image_size() const { return embedding_.size[2] * embedding_.size[3] * depth; }
  // Numbers that Tile::scratch needs.
  std::int64_t scratch_size() const;
  Tile<T> tile(std::int64_t row, std::int64_t column, T* scratch) const;

  // F of an image at (x, y), into `out` (depth,).
  void read(std::int64_t image, double x, double y, T* out) const;
  // The transpose: adds to an image's gradient (h, w, depth).
  void spread(const T* values, double x, double y, T* gradient) const;

  const int depth;
  const AxisBands<T> rows, columns;

 private:
  // The weights last until the thread's next call.
  Cells<T> cells(double x, double y) const;

  const TileKernels<T> kernels_;
  View<const T, 4> embedding_;
  Buffer<T> cells_;
};

// A thread's memory for one tile.
template <class T>
struct Workspace {
  Buffer<T> features, gradient, scratch;
  Buffer<std::int32_t> labels;

  Workspace(const FeatureMap<T>& map, bool with_gradient)
      : features(tile_numbers(map.depth)), gradient(with_gradient ? tile_numbers(map.depth) : 0),
        scratch(map.scratch_size()), labels(tile_numbers()) {
    labels.clear();
  }
};

template <class T>
std::vector<Workspace<T>> workspaces(const FeatureMap<T>& map, bool with_gradient, int threads) {
  std::vector<Workspace<T>> all;
  for (int i = 0; i < usable_threads(threads); ++i) all.emplace_back(map, with_gradient);
  return all;
}

}  // namespace crowdseg
