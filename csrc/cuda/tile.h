// Images cut into tiles, a pixel per thread; the points that matter to a tile, listed by its threads together.
#pragma once

#include "cuda/launch.h"
#include "math/circle.h"

namespace crowdseg {

constexpr int kSide = 16;  // of a tile; kSide^2 = kThreads

// The tiles of B maps of height x width, image after image.
struct Tiling {
  std::int64_t images, height, width;

  CROWDSEG_HD std::int64_t rows() const { return (height + kSide - 1) / kSide; }
  CROWDSEG_HD std::int64_t columns() const { return (width + kSide - 1) / kSide; }
  CROWDSEG_HD std::int64_t count() const { return images * rows() * columns(); }
  // A block for each; blocks go on by gridDim.x where there are more tiles.
  Blocks blocks() const { return {smaller(count(), kMaxBlocks)}; }
};

// A tile, and the pixel of it that is the thread's. The pixels of a warp are 8 wide and 4 high.
struct Tile {
  std::int64_t image;
  int top, left, bottom, right;  // half open
  int y, x;
  bool inside;  // whether the pixel is in the image

  __device__ Tile(const Tiling& tiling, std::int64_t index) {
    const std::int64_t columns = tiling.columns(), per_image = columns * tiling.rows();
    image = index / per_image;
    top = static_cast<int>(index % per_image / columns) * kSide;
    left = static_cast<int>(index % columns) * kSide;
    bottom = static_cast<int>(smaller<std::int64_t>(top + kSide, tiling.height));
    right = static_cast<int>(smaller<std::int64_t>(left + kSide, tiling.width));
    const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
    y = top + warp / 2 * 4 + lane / 8;
    x = left + warp % 2 * 8 + lane % 8;
    inside = y < bottom && x < right;
  }

  __device__ bool touched_by(const Circle& circle) const {
    return circle.contains(clamped<double>(circle.x, left, right - 1), clamped<double>(circle.y, top, bottom - 1));
  }
};

// Up to one entry per thread, in the order of the threads.
template <class Entry>
struct List {
  Entry entries[kThreads];
  int found[kWarps];

  // All threads of the block come here, each with an entry that is `wanted` or not. Returns how many are; the list stays
  // until they come again.
  __device__ int collect(bool wanted, const Entry& entry) {
    const int lane = threadIdx.x % kLanes, warp = threadIdx.x / kLanes;
    const unsigned votes = __ballot_sync(kAllLanes, wanted);
    if (lane == 0) found[warp] = __popc(votes);
    __syncthreads();
    int before = __popc(votes & ((1u << lane) - 1)), all = 0;
    for (int other = 0; other < kWarps; ++other) {
      if (other < warp) before += found[other];
      all += found[other];
    }
    if (wanted) entries[before] = entry;
    __syncthreads();
    return all;
  }
};

// Calls work(entry) for each point of an image that `select(point, entry)` wants, in ascending order. All threads of
// the block come here, and each sees every entry.
template <class Entry, class Select, class Visit>
__device__ void for_each_listed(List<Entry>& list, const Points& points, std::int64_t image, const Select& select,
                                const Visit& work) {
  const std::int64_t first = points.offsets(image), last = points.offsets(image + 1);
  for (std::int64_t start = first; start < last; start += kThreads) {
    const std::int64_t point = start + threadIdx.x;
    Entry entry;
    const bool wanted = point < last && select(point, entry);
    const int count = list.collect(wanted, entry);
    for (int i = 0; i < count; ++i) work(list.entries[i]);
  }
}

}  // namespace crowdseg
