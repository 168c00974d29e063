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

// A rectangle of pixels, half open.
struct Box {
  int top, left, bottom, right;

  __device__ bool touched_by(const Circle& circle) const {
    return circle.contains(clamped<double>(circle.x, left, right - 1), clamped<double>(circle.y, top, bottom - 1));
  }
};

// The index-th square of `side` pixels of an image, row by row; cut to the image.
__device__ inline Box square(const Tiling& tiling, int side, std::int64_t index) {
  const std::int64_t columns = (tiling.width + side - 1) / side;
  const std::int64_t top = index / columns * side, left = index % columns * side;
  return {static_cast<int>(top), static_cast<int>(left), static_cast<int>(smaller(top + side, tiling.height)),
          static_cast<int>(smaller(left + side, tiling.width))};
}

// A tile, and the pixel of it that is the thread's. The pixels of a warp are 8 wide and 4 high.
struct Tile : Box {
  std::int64_t image;
  int y, x;
  bool inside;  // whether the pixel is in the image

  __device__ Tile(const Tiling& tiling, std::int64_t index)
      : Box(square(tiling, kSide, index % (tiling.rows() * tiling.columns()))),
        image(index / (tiling.rows() * tiling.columns())) {
    const int warp = threadIdx.x / kLanes, lane = threadIdx.x % kLanes;
    y = top + warp / 2 * 4 + lane / 8;
    x = left + warp % 2 * 8 + lane % 8;
    inside = y < bottom && x < right;
  }
};

// The circles of points; which of them touch a box.
struct Circles {
  Points points;
  Radii radii;

  __device__ Circle operator[](std::int64_t point) const {
    return {points.xy(point, 0), points.xy(point, 1), reach_squared(radii(point))};
  }
  __device__ bool operator()(std::int64_t point, const Box& box) const { return box.touched_by((*this)[point]); }
};

// Which points may matter to each district, a square of several tiles, as bits: point i of an image is bit i % 32 of
// word i / 32. So no tile has to look at all points of a large crowd. Without masks, all points may matter.
struct Districts {
  static constexpr int kDistrict = 128;      // pixels
  static constexpr std::int64_t kFew = 512;  // points of an image that its tiles may as well look at

  Tiling tiling;
  Points points;
  std::int64_t words;  // of the districts of one number, in all images
  unsigned* masks = nullptr;

  CROWDSEG_HD std::int64_t columns() const { return (tiling.width + kDistrict - 1) / kDistrict; }
  CROWDSEG_HD std::int64_t per_image() const { return (tiling.height + kDistrict - 1) / kDistrict * columns(); }
  // Where an image's words of a district begin; each image has whole blocks of threads there.
  __device__ unsigned* mask(std::int64_t district, std::int64_t image) const {
    return masks + district * words + (points.offsets(image) / kThreads + image) * kWarps;
  }
  __device__ const unsigned* mask(const Tile& tile) const {
    return masks ? mask(tile.top / kDistrict * columns() + tile.left / kDistrict, tile.image) : nullptr;
  }
};

template <class Touches>
__global__ void mark_districts(Districts districts, Touches touches) {
  const std::int64_t per_image = districts.per_image(), count = districts.tiling.images * per_image;
  for (std::int64_t index = blockIdx.x; index < count; index += gridDim.x) {
    const std::int64_t image = index / per_image, district = index % per_image;
    const Box box = square(districts.tiling, Districts::kDistrict, district);
    const std::int64_t first = districts.points.offsets(image), people = districts.points.offsets(image + 1) - first;
    unsigned* mask = districts.mask(district, image);
    for (std::int64_t i = threadIdx.x; i - threadIdx.x < people; i += kThreads) {
      const unsigned votes = __ballot_sync(kAllLanes, i < people && touches(first + i, box));
      if (threadIdx.x % kLanes == 0) mask[i / kLanes] = votes;
    }
  }
}

// `touches(point, box)`: whether a point matters to any pixel of a box.
template <class Touches>
Districts find_districts(const Stream& stream, const Tiling& tiling, const Points& points, const Touches& touches) {
  const std::int64_t people = points.xy.size[0];
  Districts districts{tiling, points, (people / kThreads + tiling.images) * kWarps};
  if (people <= Districts::kFew * tiling.images) return districts;
  districts.masks = stream.take<unsigned>(districts.per_image() * districts.words);
  const Blocks blocks{smaller(tiling.images * districts.per_image(), kMaxBlocks)};
  launch(stream, blocks, mark_districts<Touches>, districts, touches);
  return districts;
}

// Up to one entry per thread, in the order of the threads.
template <class Entry>
struct List {
  Entry entries[kThreads];
  int candidates[kThreads];
  int sums[kWarps];

  // All threads of the block come here, each with an entry that is `wanted` or not. Returns how many are; the list
  // stays until they come again.
  __device__ int collect(bool wanted, const Entry& entry) {
    const unsigned votes = __ballot_sync(kAllLanes, wanted);
    const int lane = threadIdx.x % kLanes;
    int all;
    const int before = sum_before(__popc(votes), all) + __popc(votes & ((1u << lane) - 1));
    if (wanted) entries[before] = entry;
    __syncthreads();
    return all;
  }

  // The sum of `value`, one per warp, over the warps before the thread's own, and over `all`.
  __device__ int sum_before(int value, int& all) {
    const int warp = threadIdx.x / kLanes;
    if (threadIdx.x % kLanes == 0) sums[warp] = value;
    __syncthreads();
    int before = 0;
    all = 0;
    for (int other = 0; other < kWarps; ++other) {
      if (other < warp) before += sums[other];
      all += sums[other];
    }
    return before;
  }

  // The place of the first bit of the thread's word among all bits of the threads' words, which are `all`.
  __device__ int count_before(unsigned word, int& all) {
    const int lane = threadIdx.x % kLanes, own = __popc(word);
    int upto = own;
    for (int step = 1; step < kLanes; step *= 2) {
      const int other = __shfl_up_sync(kAllLanes, upto, step);
      if (lane >= step) upto += other;
    }
    const int before = sum_before(__shfl_sync(kAllLanes, upto, kLanes - 1), all) + upto - own;
    __syncthreads();
    return before;
  }

  // Writes `first` + i for each bit i of the thread's word to the candidates from `place` on, as far as they have room.
  __device__ void expand(unsigned word, int first, int place) {
    for (unsigned bits = word; bits != 0; bits &= bits - 1, ++place) {
      if (place >= 0 && place < kThreads) candidates[place] = first + __ffs(bits) - 1;
    }
    __syncthreads();
  }
};

// Calls work(entry) for each point of the tile's image that `select(point, entry)` wants, in ascending order; select
// must leave out whom `districts` do. All threads of the block come here, and each sees every entry.
template <class Entry, class Select, class Visit>
__device__ void for_each_listed(List<Entry>& list, const Districts& districts, const Tile& tile, const Select& select,
                                const Visit& work) {
  constexpr int kRound = kThreads * kLanes;  // points looked at in one go: a word of the mask per thread
  const std::int64_t first = districts.points.offsets(tile.image);
  const std::int64_t people = districts.points.offsets(tile.image + 1) - first;
  const unsigned* mask = districts.mask(tile);
  for (std::int64_t start = 0; start < people; start += kRound) {
    const std::int64_t own = start + threadIdx.x * kLanes;  // first point of the thread's word
    const unsigned word = mask && own < people ? mask[own / kLanes] : 0;
    int all = static_cast<int>(smaller<std::int64_t>(kRound, people - start));
    const int before = mask ? list.count_before(word, all) : 0;
    for (int base = 0; base < all; base += kThreads) {
      std::int64_t point = start + base + threadIdx.x;
      const bool there = base + static_cast<int>(threadIdx.x) < all;
      if (mask) {
        list.expand(word, static_cast<int>(own), before - base);
        point = there ? list.candidates[threadIdx.x] : 0;
      }
      Entry entry;
      const bool wanted = there && select(first + point, entry);
      const int count = list.collect(wanted, entry);
      for (int i = 0; i < count; ++i) work(list.entries[i]);
    }
  }
}

}  // namespace crowdseg
