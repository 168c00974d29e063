// F on a tile, a chunk of channels per pass: from cells to the registers of each pixel's thread, and gradients back.
#pragma once

#include "cuda/features.h"

namespace crowdseg {

constexpr int kBatch = 8;  // cells of an axis that a pass takes at a time; at stride 4 a tile's bands have no more

// A chunk of one pixel; the padding spreads pixels that are neighbours over the banks.
template <class T>
struct alignas(16) Chunk {
  T channel[kChannels<T> + 16 / sizeof(T)];
};

// Between the pass along columns of cells and the one along rows: cells of one axis by pixels of the other.
template <class T>
using Strip = Chunk<T>[kBatch][kSide];

template <class T>
struct SpreadMemory {
  Chunk<T> gradient[kSide][kSide];
  T row_weights[kSide][kBatch], column_weights[kSide][kBatch];  // of the batch's cells, for each pixel
};

// F at the thread's pixel: channels from `first` on, 0 beyond the embedding's. Pixels outside the image take the
// nearest one's. All threads of the block come here.
template <class T>
__device__ void read_pixels(const View<const T, 4>& embedding, const Bands2& pixels, const Tile& tile,
                            std::int64_t first, Strip<T>& strip, T (&features)[kChannels<T>]) {
  constexpr int kParts = kThreads / (kSide * kChannels<T>), kRows = kBatch / kParts;  // of the strip, per thread
  const int column = threadIdx.x % kSide, channel = threadIdx.x / kSide % kChannels<T>;
  const int part = threadIdx.x / (kSide * kChannels<T>) * kRows;
  const Bands &rows = pixels.rows, &columns = pixels.columns;
  const int x = smaller(tile.left + column, tile.right - 1);
  const bool there = first + channel < embedding.size[1];
  const int own_y = smaller(tile.y, tile.bottom - 1), own_column = smaller(tile.x, tile.right - 1) - tile.left;
  const int last = rows.end(tile.bottom - 1);
#pragma unroll
  for (int c = 0; c < kChannels<T>; ++c) features[c] = 0;
  for (int batch = rows.begin(tile.top); batch < last; batch += kBatch) {
    T sum[kRows] = {};
    const int rows_left = last - batch - part;
    const T* above = &embedding(tile.image, there ? first + channel : 0, batch + part, columns.begin(x));
    const double* weights = columns.weights + static_cast<std::int64_t>(x) * columns.axis.length;
    for (int k = 0; there && k < columns.axis.length; ++k, above += embedding.stride[3]) {
      const T weight = static_cast<T>(weights[k]);
      const T* cell = above;
#pragma unroll
      for (int row = 0; row < kRows; ++row, cell += embedding.stride[2]) {
        if (row < rows_left) sum[row] += weight * *cell;
      }
    }
    __syncthreads();
#pragma unroll
    for (int row = 0; row < kRows; ++row) strip[part + row][column].channel[channel] = sum[row];
    __syncthreads();
    const int begin = larger(rows.begin(own_y), batch), end = smaller(rows.end(own_y), batch + kBatch);
    for (int cell = begin; cell < end; ++cell) {
      const T weight = static_cast<T>(rows.weight(own_y, cell));
#pragma unroll
      for (int c = 0; c < kChannels<T>; ++c) features[c] += weight * strip[cell - batch][own_column].channel[c];
    }
  }
}

// Weights of the cells from `batch` on in the bands of the tile's pixels along one axis; 0 outside the image.
template <class T>
__device__ void load_weights(const Bands& pixels, int start, int end, int batch, T (&weights)[kSide][kBatch]) {
  const int pixel = threadIdx.x / kBatch, cell = threadIdx.x % kBatch;
  if (pixel >= kSide) return;
  const bool inside = start + pixel < end;
  weights[pixel][cell] = inside ? static_cast<T>(pixels.weight(start + pixel, batch + cell)) : 0;
}

// The transpose of read_pixels: from the gradient of the thread's pixel to the tile's cells, in `out` (rows, columns,
// kChannels) of which a row has `columns` cells. All threads of the block come here.
template <class T>
__device__ void spread_pixels(const T (&gradient)[kChannels<T>], const Bands2& pixels, const Tile& tile,
                              Strip<T>& strip, SpreadMemory<T>& memory, T* out, int columns) {
  constexpr int kParts = kThreads / (kSide * kChannels<T>), kRows = kBatch / kParts;          // of the strip
  constexpr int kOutParts = kThreads / (kBatch * kChannels<T>), kCells = kBatch / kOutParts;  // of a row of cells
  const int channel = threadIdx.x % kChannels<T>, rest = threadIdx.x / kChannels<T>;
  const int column = rest % kSide, rows_from = rest / kSide * kRows;
  const int row = rest % kBatch, cells_from = rest / kBatch * kCells;
  const int top = pixels.rows.begin(tile.top), bottom = pixels.rows.end(tile.bottom - 1);
  const int left = pixels.columns.begin(tile.left), right = pixels.columns.end(tile.right - 1);
  __syncthreads();
#pragma unroll
  for (int c = 0; c < kChannels<T>; ++c) {
    memory.gradient[tile.y - tile.top][tile.x - tile.left].channel[c] = tile.inside ? gradient[c] : 0;
  }
  for (int y = top; y < bottom; y += kBatch) {
    load_weights(pixels.rows, tile.top, tile.bottom, y, memory.row_weights);
    __syncthreads();
    T sum[kRows] = {};
    for (int pixel = 0; pixel < kSide; ++pixel) {
      const T value = memory.gradient[pixel][column].channel[channel];
#pragma unroll
      for (int k = 0; k < kRows; ++k) sum[k] += memory.row_weights[pixel][rows_from + k] * value;
    }
#pragma unroll
    for (int k = 0; k < kRows; ++k) strip[rows_from + k][column].channel[channel] = sum[k];
    for (int x = left; x < right; x += kBatch) {
      load_weights(pixels.columns, tile.left, tile.right, x, memory.column_weights);
      __syncthreads();
      T cells[kCells] = {};
      for (int pixel = 0; pixel < kSide; ++pixel) {
        const T value = strip[row][pixel].channel[channel];
#pragma unroll
        for (int k = 0; k < kCells; ++k) cells[k] += memory.column_weights[pixel][cells_from + k] * value;
      }
#pragma unroll
      for (int k = 0; k < kCells; ++k) {
        const int place = x - left + cells_from + k;
        if (y + row < bottom && left + place < right) {
          out[((y - top + row) * columns + place) * kChannels<T> + channel] = cells[k];
        }
      }
      __syncthreads();
    }
  }
}

// Channels of a thread's pixel: in registers where there are few, else in memory of the thread's own.
constexpr int kFewChannels = 16;

template <class T, int kChunks>
struct PixelChannels {
  T value[kChunks][kChannels<T>];

  __device__ PixelChannels(T*, int) {}
  __device__ int chunks() const { return kChunks; }
};

template <class T>
struct PixelChannels<T, 0> {
  T (*value)[kChannels<T>];
  int count;

  __device__ PixelChannels(T* memory, int chunks)
      : value(reinterpret_cast<T(*)[kChannels<T>]>(memory + global_thread() * chunks * kChannels<T>)), count(chunks) {}
  __device__ int chunks() const { return count; }
};

// Blocks at a time where channels lie in memory, which bounds that.
constexpr std::int64_t kSlowBlocks = 1024;

// How the channels of an embedding are cut, and which blocks work on a map's tiles.
template <class T>
struct Depth {
  int chunks;
  bool few;
  Blocks blocks;

  Depth(std::int64_t channels, const Tiling& tiling) : few(channels <= kFewChannels), blocks(tiling.blocks()) {
    chunks = chunks_of(few ? kFewChannels : channels, kChannels<T>);
    if (!few) blocks.x = smaller(blocks.x, kSlowBlocks);
  }
  std::int64_t padded() const { return static_cast<std::int64_t>(chunks) * kChannels<T>; }
  // Memory for a PixelChannels in every thread.
  T* take(const Stream& stream) const { return few ? nullptr : stream.take<T>(blocks.x * kThreads * padded()); }
};

// |F - c| at the thread's pixel; `center` is (channels,), padded as F is.
template <class T, int kChunks>
__device__ T distance_to(const T* center, const PixelChannels<T, kChunks>& features) {
  T square = 0;
#pragma unroll
  for (int k = 0; k < features.chunks(); ++k) {
#pragma unroll
    for (int c = 0; c < kChannels<T>; ++c) {
      const T difference = features.value[k][c] - center[k * kChannels<T> + c];
      square += difference * difference;
    }
  }
  return std::sqrt(square);
}

}  // namespace crowdseg
