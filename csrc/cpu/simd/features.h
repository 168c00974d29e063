// F on a tile, from cells to pixels and back, and at single points.
#pragma once

#include "cpu/simd/vec.h"
#include "cpu/tile_kernels.h"

namespace crowdseg::CROWDSEG_ISA {

namespace {

template <class T>
void interleave(const T* in, std::int64_t stride, int rows, std::int64_t columns, int depth, T* out) {
  std::int64_t x = 0;
  for (; x + kLanes<T> <= columns; x += kLanes<T>) {
    for (int row = 0; row < depth; row += kLanes<T>) {
      Vec<T> block[kLanes<T>];
      for (int i = 0; i < kLanes<T>; ++i) block[i] = row + i < rows ? load(in + (row + i) * stride + x) : Vec<T>{};
      transpose<T>(block);
      for (int i = 0; i < kLanes<T>; ++i) store(out + (x + i) * depth + row, block[i]);
    }
  }
  for (; x < columns; ++x) {
    for (int row = 0; row < depth; ++row) out[x * depth + row] = row < rows ? in[row * stride + x] : 0;
  }
}

template <class T>
void separate(const T* in, int depth, int rows, std::int64_t columns, std::int64_t stride, T* out) {
  std::int64_t x = 0;
  for (; x + kLanes<T> <= columns; x += kLanes<T>) {
    for (int row = 0; row < rows; row += kLanes<T>) {
      Vec<T> block[kLanes<T>];
      for (int i = 0; i < kLanes<T>; ++i) block[i] = load(in + (x + i) * depth + row);
      transpose<T>(block);
      for (int i = 0; i < smaller(kLanes<T>, rows - row); ++i) store(out + (row + i) * stride + x, block[i]);
    }
  }
  for (; x < columns; ++x) {
    for (int row = 0; row < rows; ++row) out[row * stride + x] = in[x * depth + row];
  }
}

template <class T>
void read(const Cells<T>& cells, const T* embedding, int depth, T* out) {
  for (int d = 0; d < depth; d += kLanes<T>) {
    Vec<T> sum{};
    for (int row = 0; row < cells.rows; ++row) {
      const T* line = embedding + cells.first + row * cells.row_stride + d;
      Vec<T> part{};
      for (int i = 0; i < cells.columns; ++i) part = multiply_add(load(line + i * depth), splat(cells.across[i]), part);
      sum = multiply_add(part, splat(cells.along[row]), sum);
    }
    store(out + d, sum);
  }
}

template <class T>
void spread_point(const Cells<T>& cells, const T* values, int depth, T* out) {
  for (int d = 0; d < depth; d += kLanes<T>) {
    const Vec<T> value = load(values + d);
    for (int row = 0; row < cells.rows; ++row) {
      const Vec<T> part = value * splat(cells.along[row]);
      for (int i = 0; i < cells.columns; ++i) {
        T* cell = out + cells.first + row * cells.row_stride + i * depth + d;
        store(cell, multiply_add(part, splat(cells.across[i]), load(cell)));
      }
    }
  }
}

// Calls step(i) for every vector of `size` numbers.
template <class T, class Step>
CROWDSEG_HD void for_unrolled(std::int64_t size, const Step& step) {
  std::int64_t i = 0;
  for (; i + 4 * kLanes<T> <= size; i += 4 * kLanes<T>) {
    for (int k = 0; k < 4; ++k) step(i + k * kLanes<T>);
  }
  for (; i < size; i += kLanes<T>) step(i);
}

// Lines of numbers, `stride` apart.
template <class T>
struct Lines {
  T* data;
  std::int64_t stride;
  int count;
};

// Each line of `out` (`size` numbers) = the weighted sum of kTaps pieces of the same line of `in`, `step` apart.
template <int kTaps, class T>
CROWDSEG_HD void weighted_sums(Lines<const T> in, std::int64_t step, const T* weights, Lines<T> out, std::int64_t size) {
  Vec<T> weight[kTaps];
  for (int k = 0; k < kTaps; ++k) weight[k] = splat(weights[k]);
  for (int line = 0; line < in.count; ++line) {
    const T* from = in.data + line * in.stride;
    T* to = out.data + line * out.stride;
    for_unrolled<T>(size, [&](std::int64_t i) {
      Vec<T> sum = load(from + i) * weight[0];
      for (int k = 1; k < kTaps; ++k) sum = multiply_add(load(from + k * step + i), weight[k], sum);
      store(to + i, sum);
    });
  }
}

// The same for any number of taps.
template <class T>
void weighted_sums(Lines<const T> in, std::int64_t step, const T* weights, int taps, Lines<T> out, std::int64_t size) {
  // A band's ends may weigh nothing.
  for (; taps > 1 && weights[taps - 1] == 0; --taps) {}
  for (; taps > 1 && weights[0] == 0; --taps, ++weights) in.data += step;
  if (taps == 3) return weighted_sums<3>(in, step, weights, out, size);  // at stride 4, the network's, 3 or 4
  if (taps == 4) return weighted_sums<4>(in, step, weights, out, size);
  for (int line = 0; line < in.count; ++line) {
    for (std::int64_t i = 0; i < size; i += kLanes<T>) {
      Vec<T> sum{};
      for (int k = 0; k < taps; ++k) {
        sum = multiply_add(load(in.data + line * in.stride + k * step + i), splat(weights[k]), sum);
      }
      store(out.data + line * out.stride + i, sum);
    }
  }
}

// The rows and columns of cells that a tile's pixels are made of.
template <class T>
struct CellRange {
  std::int32_t top, bottom, left, right;  // half open

  explicit CellRange(const Tile<T>& tile)
      : top(tile.rows.first[tile.top]), bottom(tile.rows.first[tile.top + tile.height - 1] + tile.rows.length),
        left(tile.columns.first[tile.left]),
        right(tile.columns.first[tile.left + tile.width - 1] + tile.columns.length) {}
};

template <class T>
void features(const Tile<T>& tile, const T* embedding, T* out) {
  const CellRange<T> cells(tile);
  const std::int64_t depth = tile.depth, line = kTile * depth, row = tile.row_cells * depth;
  const int rows = cells.bottom - cells.top;
  for (int x = 0; x < tile.width; ++x) {  // along the rows of cells
    const std::int64_t pixel = tile.left + x;
    const T* from = embedding + cells.top * row + tile.columns.first[pixel] * depth;
    weighted_sums<T>({from, row, rows}, depth, tile.columns.weights + pixel * tile.columns.length,
                     tile.columns.length, {tile.scratch + x * depth, line, rows}, depth);
  }
  for (int y = 0; y < tile.height; ++y) {  // and down
    const std::int64_t pixel = tile.top + y;
    const T* from = tile.scratch + (tile.rows.first[pixel] - cells.top) * line;
    weighted_sums<T>({from, line, 1}, line, tile.rows.weights + pixel * tile.rows.length, tile.rows.length,
                     {out + y * line, line, 1}, tile.width * depth);
  }
}

// What a cell gets of the pixels that lie in a tile: their weights, and the first of them, counted from the tile's.
template <class T>
struct Shares {
  const T *weights, *end;
  std::int64_t first;

  CROWDSEG_HD Shares(const BandTable<T>& table, std::int32_t cell, std::int64_t start, int size) {
    const Span pixels = table.pixels[cell];
    const std::int64_t low = larger<std::int64_t>(pixels.first, start);
    const std::int64_t high = smaller<std::int64_t>(pixels.last, start + size);
    weights = table.cell_weights + table.cell_start[cell] + low - pixels.first;
    end = weights + larger<std::int64_t>(high - low, 0);
    first = low - start;
  }
};

// kLines lines of kVectors of `out` = (or, with kAdd, +=) the sums of pixels, `step` apart in the lines of `in`, times
// their shares.
template <int kLines, int kVectors, bool kAdd, class T>
CROWDSEG_HD void gather(const T* in, std::int64_t in_stride, std::int64_t step, const Shares<T>& shares, T* out,
                        std::int64_t out_stride) {
  Vec<T> sum[kLines][kVectors] = {};
  in += shares.first * step;
  for (const T* weight = shares.weights; weight < shares.end; ++weight, in += step) {
    const Vec<T> w = splat(*weight);
    for (int line = 0; line < kLines; ++line) {
      for (int v = 0; v < kVectors; ++v) {
        sum[line][v] = multiply_add(load(in + line * in_stride + v * kLanes<T>), w, sum[line][v]);
      }
    }
  }
  for (int line = 0; line < kLines; ++line) {
    for (int v = 0; v < kVectors; ++v) {
      T* to = out + line * out_stride + v * kLanes<T>;
      store(to, kAdd ? load(to) + sum[line][v] : sum[line][v]);
    }
  }
}

template <class T>
void spread(const Tile<T>& tile, const T* gradient, T* out) {
  const CellRange<T> cells(tile);
  const std::int64_t depth = tile.depth, line = kTile * depth, row = tile.row_cells * depth;
  const int rows = cells.bottom - cells.top;
  for (int y = 0; y < rows; ++y) {  // up the columns of pixels
    const Shares<T> shares(tile.rows, cells.top + y, tile.top, tile.height);
    T* to = tile.scratch + y * line;
    std::int64_t i = 0;
    for (; i + 8 * kLanes<T> <= tile.width * depth; i += 8 * kLanes<T>) {
      gather<1, 8, false>(gradient + i, 0, line, shares, to + i, 0);
    }
    for (; i < tile.width * depth; i += kLanes<T>) gather<1, 1, false>(gradient + i, 0, line, shares, to + i, 0);
  }
  for (std::int32_t cell = cells.left; cell < cells.right; ++cell) {  // and along the rows
    const Shares<T> shares(tile.columns, cell, tile.left, tile.width);
    T* to = out + cells.top * row + cell * depth;
    for (std::int64_t i = 0; i < depth; i += kLanes<T>) {
      int y = 0;
      for (; y + 6 <= rows; y += 6) {
        gather<6, 1, true>(tile.scratch + y * line + i, line, depth, shares, to + y * row + i, row);
      }
      for (; y < rows; ++y) gather<1, 1, true>(tile.scratch + y * line + i, line, depth, shares, to + y * row + i, row);
    }
  }
}

}  // namespace

}  // namespace crowdseg::CROWDSEG_ISA
