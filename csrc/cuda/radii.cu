// Nearest-neighbour radii on a uniform grid (xmask section 2): bounding boxes, points sorted by cell, search.
#include "cuda/ordered.h"
#include "math/grid.h"

namespace crowdseg {

namespace {

constexpr std::int64_t kMaxParts = 1024;  // blocks for one image

struct Place {
  double x, y;
};

// The points of a cell: places[first] to places[first + count - 1].
struct Segment {
  int first, count;
};

// Everything that the kernels hand on, in temporary memory.
struct Work {
  Points points;
  Ordered *low, *high;  // (B, 2) rims of the box of an image's points
  int* used;            // (B,) places given to cells so far
  Segment* segments;    // of max_grid_cells: an image after the other
  int *cell, *rank;     // (N,) where each point goes: its cell, and its place within that
  Place* places;        // (N,) cell by cell
  int* order;           // (N,) which point each place is

  __device__ Place place(std::int64_t i) const { return {points.xy(i, 0), points.xy(i, 1)}; }
};

// The image that a block works on.
struct Image {
  std::int64_t first, last;  // of its points
  std::int64_t index;
  Grid grid;
  Segment* segments;

  __device__ int cell(const Place& place) const {
    return static_cast<int>(grid.row(place.y) * grid.columns + grid.column(place.x));
  }
};

// Calls work(image) for each image of the block, all its threads together.
template <class Visit>
__device__ void for_each_image(const Work& work, const Visit& visit) {
  const std::int64_t images = work.points.offsets.size[0] - 1;
  for (std::int64_t b = blockIdx.y; b < images; b += gridDim.y) {
    const std::int64_t first = work.points.offsets(b), last = work.points.offsets(b + 1);
    if (first < last) visit(Image{first, last, b, {}, work.segments + max_grid_cells(first, b)});
  }
}

// As for_each_image, once the boxes are known.
template <class Visit>
__device__ void for_each_grid(const Work& work, const Visit& visit) {
  for_each_image(work, [&](Image image) {
    const Ordered *low = work.low + 2 * image.index, *high = work.high + 2 * image.index;
    image.grid =
        grid_over(restored(low[0]), restored(low[1]), restored(high[0]), restored(high[1]), image.last - image.first);
    visit(image);
  });
}

__global__ void find_boxes(Work work) {
  for_each_image(work, [&](const Image& image) {
    Place low = work.place(image.first), high = low;
    for (std::int64_t i = image.first + global_thread(); i < image.last; i += global_threads()) {
      const Place place = work.place(i);
      low = {smaller(low.x, place.x), smaller(low.y, place.y)};
      high = {larger(high.x, place.x), larger(high.y, place.y)};
    }
    for (int step = kLanes / 2; step > 0; step /= 2) {
      low.x = smaller(low.x, __shfl_xor_sync(kAllLanes, low.x, step));
      low.y = smaller(low.y, __shfl_xor_sync(kAllLanes, low.y, step));
      high.x = larger(high.x, __shfl_xor_sync(kAllLanes, high.x, step));
      high.y = larger(high.y, __shfl_xor_sync(kAllLanes, high.y, step));
    }
    if (threadIdx.x % kLanes == 0) {
      atomicMin(&work.low[2 * image.index], ordered(low.x));
      atomicMin(&work.low[2 * image.index + 1], ordered(low.y));
      atomicMax(&work.high[2 * image.index], ordered(high.x));
      atomicMax(&work.high[2 * image.index + 1], ordered(high.y));
    }
  });
}

__global__ void count_cells(Work work) {
  for_each_grid(work, [&](const Image& image) {
    for (std::int64_t i = image.first + global_thread(); i < image.last; i += global_threads()) {
      const int cell = image.cell(work.place(i));
      work.cell[i] = cell;
      work.rank[i] = atomicAdd(&image.segments[cell].count, 1);
    }
  });
}

// Cells take their places in any order: a minimum does not depend on it.
__global__ void place_cells(Work work) {
  for_each_grid(work, [&](const Image& image) {
    const int lane = threadIdx.x % kLanes;
    const std::int64_t cells = image.grid.cells();
    for (std::int64_t base = global_thread() - lane; base < cells; base += global_threads()) {
      const std::int64_t cell = base + lane;
      const int count = cell < cells ? image.segments[cell].count : 0;
      int before = count;  // in the warp's cells up to this one
      for (int step = 1; step < kLanes; step *= 2) {
        const int other = __shfl_up_sync(kAllLanes, before, step);
        if (lane >= step) before += other;
      }
      int start = 0;
      if (lane == kLanes - 1) start = atomicAdd(&work.used[image.index], before);
      start = __shfl_sync(kAllLanes, start, kLanes - 1);
      if (cell < cells) image.segments[cell].first = static_cast<int>(image.first) + start + before - count;
    }
  });
}

__global__ void sort_points(Work work) {
  for_each_image(work, [&](const Image& image) {
    for (std::int64_t i = image.first + global_thread(); i < image.last; i += global_threads()) {
      const int slot = image.segments[work.cell[i]].first + work.rank[i];
      work.places[slot] = work.place(i);
      work.order[slot] = static_cast<int>(i);
    }
  });
}

// One point looks for its nearest other one.
struct Search {
  const Work& work;
  const Image& image;
  std::int64_t self;
  Place place;
  double enough;  // a squared distance below which no nearer neighbour is looked for
  double best;    // squared

  // Widens the block of cells round the point until nothing outside can be nearer.
  __device__ void run() {
    const Grid& grid = image.grid;
    const std::int64_t column = grid.column(place.x), row = grid.row(place.y);
    scan(row * grid.columns + column);
    for (std::int64_t ring = 1;; ++ring) {
      if (best <= larger(enough, grid.clearance2(place.x, place.y, column, row, ring - 1))) return;
      scan_ring(column, row, ring);
    }
  }

  __device__ void scan_ring(std::int64_t column, std::int64_t row, std::int64_t ring) {
    const Grid& grid = image.grid;
    const std::int64_t left = larger<std::int64_t>(column - ring, 0), right = smaller(column + ring, grid.columns - 1);
    const std::int64_t bottom = smaller(row + ring, grid.rows - 1);
    for (std::int64_t y = larger<std::int64_t>(row - ring, 0); y <= bottom; ++y) {
      const std::int64_t base = y * grid.columns;
      if (y == row - ring || y == row + ring) {
        for (std::int64_t x = left; x <= right; ++x) scan(base + x);
      } else {
        if (column - ring >= 0) scan(base + column - ring);
        if (column + ring < grid.columns) scan(base + column + ring);
      }
    }
  }

  __device__ void scan(std::int64_t cell) {
    const Segment segment = image.segments[cell];
    for (int i = segment.first; i < segment.first + segment.count && best > enough; ++i) {
      const Place other = work.places[i];
      const double distance2 = squared_length(other.x - place.x, other.y - place.y);
      if (distance2 < best && i != self) best = distance2;
    }
  }
};

__global__ void search(Work work, double min_radius, double max_radius, View<double, 1> out) {
  for_each_grid(work, [&](const Image& image) {
    for (std::int64_t i = image.first + global_thread(); i < image.last; i += global_threads()) {
      Search search{work, image, i, work.places[i], min_radius * min_radius, HUGE_VAL};
      search.run();
      // Limits that cross leave the upper one.
      out(work.order[i]) = smaller(larger(std::sqrt(search.best), min_radius), max_radius);
    }
  });
}

}  // namespace

void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Stream stream) {
  use_device(stream);
  const std::int64_t count = points.xy.size[0], images = points.offsets.size[0] - 1;
  if (count == 0) return;
  Work work{points};
  work.low = take_filled<Ordered>(stream, 2 * images, 0xff);
  work.high = take_filled<Ordered>(stream, 2 * images, 0);
  work.used = take_filled<int>(stream, images, 0);
  work.segments = take_filled<Segment>(stream, max_grid_cells(count, images), 0);
  work.cell = stream.take<int>(count);
  work.rank = stream.take<int>(count);
  work.places = stream.take<Place>(count);
  work.order = stream.take<int>(count);
  const Blocks blocks{smaller(blocks_for(count).x, kMaxParts), smaller(images, kMaxBlocksY)};
  launch(stream, blocks, find_boxes, work);
  launch(stream, blocks, count_cells, work);
  launch(stream, blocks, place_cells, work);
  launch(stream, blocks, sort_points, work);
  launch(stream, blocks, search, work, min_radius, max_radius, out);
}

}  // namespace crowdseg
