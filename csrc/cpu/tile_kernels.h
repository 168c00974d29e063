// The inner loops over one tile of an image, compiled once per instruction set and chosen at run time.
#pragma once

#include "math/circle.h"

namespace crowdseg {

constexpr int kTile = 32;         // pixels along either side
// What no label is: pixels that say nothing.
constexpr std::int32_t kInvalid = INT32_MIN;

// The bands of every pixel of one axis, and the other way round.
template <class T>
struct BandTable {
  const std::int32_t* first;   // per pixel: its first cell
  const T* weights;            // per pixel: the weights of `length` cells from there
  int length;
  const Span* pixels;              // per cell: the pixels whose bands hold it
  const std::int64_t* cell_start;  // per cell: where the weights that those pixels give it begin
  const T* cell_weights;
};

// A tile of the feature map F. Pixels and cells are `depth` numbers each, padded with zeros to whole vectors.
template <class T>
struct Tile {
  std::int64_t top, left;  // its first pixel
  int height, width;       // at most kTile
  int depth;
  BandTable<T> rows, columns;
  std::int64_t row_cells;  // cells in a row of the embedding
  T* scratch;              // (cells between the tile's first and last row, kTile, depth)
};

// The part of one circle that lies in a tile: a span of columns for each row from `top`, in pixels of the image.
struct Patch {
  const Span* spans;
  std::int64_t top;
  int height;
};

// Pixels of a circle in a tile: to pull, to push.
struct Counts {
  std::int32_t pull, push;
};

// Circle n of a tile in the pull/push loss.
template <class T>
struct PullPush {
  std::int32_t label;  // of the point
  T pull, push;        // weight of a pixel
  T near, far, rounding;
  const T* center;  // (depth,)
};

// Circle n of a tile in the energy masks.
template <class T>
struct Energy {
  double x, y;
  T shrink, threshold;  // see math/energy.h
  const T* center;      // (depth,)
};

// Arrays of a tile have kTile columns whatever its width, and kPadding entries more at the end.
constexpr int kPadding = 16;

// The cells that make F at one position: rows x columns of them from `first`, a number of the embedding.
template <class T>
struct Cells {
  std::int64_t first, row_stride;
  int rows, columns;
  const T *along, *across;  // their weights
};

template <class T>
struct TileKernels {
  // Numbers (rows, columns), rows `stride` apart, to out (columns, depth): columns of `depth` >= rows numbers, the rest 0.
  void (*interleave)(const T* in, std::int64_t stride, int rows, std::int64_t columns, int depth, T* out);
  // Its inverse: in (columns, depth) to out (rows, columns).
  void (*separate)(const T* in, int depth, int rows, std::int64_t columns, std::int64_t stride, T* out);
  // F at one position, into `out` (depth,), and the transpose, which adds to the embedding's gradient.
  void (*read)(const Cells<T>&, const T* embedding, int depth, T* out);
  void (*spread_point)(const Cells<T>&, const T* values, int depth, T* embedding_gradient);
  // F of the tile (kTile * height pixels) from the embedding (h, w, depth).
  void (*features)(const Tile<T>&, const T* embedding, T* features);
  // The transpose: adds to the embedding's gradient.
  void (*spread)(const Tile<T>&, const T* gradient, T* embedding_gradient);
  // The tile's part of maps of an image, `row_pixels` in a row: its labels, kInvalid where not valid.
  void (*labels)(const Tile<T>&, const std::int32_t* labels, const bool* valid, std::int64_t row_pixels,
                 std::int32_t* out);
  // How many pixels of a circle have a label, and how many others are valid.
  Counts (*count)(const Tile<T>&, const Patch&, const std::int32_t* labels, std::int32_t label);
  // The loss of a circle; with `gradient` (of F) adds to it and to `center_gradient` (depth,).
  double (*pull_push)(const Tile<T>&, const Patch&, const PullPush<T>&, const std::int32_t* labels, const T* features,
                      T* gradient, T* center_gradient);
  // Lets circle `index` compete for the pixels: lowers `best` and sets `owner`.
  void (*energy)(const Tile<T>&, const Patch&, const Energy<T>&, const T* features, std::int32_t index, T* best,
                 std::int32_t* owner);
  // The columns of rows `rows.first` to `rows.last` - 1 that lie in a circle, exactly, into `spans`; returns columns that
  // hold them all.
  Span (*spans)(const Circle&, Span rows, std::int32_t width, Span* spans);
  // As `energy`, by squared distance.
  void (*nearest)(const Tile<double>&, const Patch&, double x, double y, std::int32_t index, double* best,
                  std::int32_t* owner);
};

// Those of the best instruction set that this processor has, for pixels of `depth` numbers.
template <class T>
TileKernels<T> tile_kernels(int depth);

// What that instruction set is, and the bytes of its vectors.
struct InstructionSet {
  const char* name;
  int vector_bytes;
};
const InstructionSet& instruction_set();

}  // namespace crowdseg
