// Compiled once per instruction set: CROWDSEG_ISA names it.
#include "cpu/tile_kernels.h"

#include "cpu/simd.h"
#include "math/energy.h"
#include "math/hinge.h"

namespace crowdseg::CROWDSEG_ISA {

namespace {

// Vectors per pixel, where known when compiling (16 floats are 2), else 0.
template <class T, int kVectors>
struct Depth {
  int vectors;
  explicit Depth(int depth) : vectors(kVectors ? kVectors : depth / kLanes<T>) {}
  CROWDSEG_HD int count() const { return kVectors ? kVectors : vectors; }
};

// Row `out` (count vectors) = the weighted sum of `length` rows.
template <class T>
CROWDSEG_HD void weighted_sum(const T* rows, std::int64_t stride, const T* weights, int length, T* out, int count) {
  const T* end = out + count * kLanes<T>;
  if (length == 4) {  // stride 4, the network's
    const Vec<T> a = splat(weights[0]), b = splat(weights[1]), c = splat(weights[2]), d = splat(weights[3]);
    const T *second = rows + stride, *third = second + stride, *fourth = third + stride;
    const auto sum = [&](std::int64_t i) {
      const Vec<T> half = multiply_add(load(second + i), b, load(rows + i) * a);
      return multiply_add(load(fourth + i), d, multiply_add(load(third + i), c, half));
    };
    std::int64_t i = 0;
    for (; i + 4 * kLanes<T> <= end - out; i += 4 * kLanes<T>) {
      for (int k = 0; k < 4; ++k) store(out + i + k * kLanes<T>, sum(i + k * kLanes<T>));
    }
    for (; i < end - out; i += kLanes<T>) store(out + i, sum(i));
    return;
  }
  for (; out < end; out += kLanes<T>, rows += kLanes<T>) {
    Vec<T> sum{};
    for (int k = 0; k < length; ++k) sum = multiply_add(load(rows + k * stride), splat(weights[k]), sum);
    store(out, sum);
  }
}

template <class T>
void features(const Tile<T>& tile, const T* embedding, T* out) {
  const int depth = tile.depth, vectors = depth / kLanes<T>;
  const std::int32_t first = tile.rows.first[tile.top];
  const std::int32_t end = tile.rows.first[tile.top + tile.height - 1] + tile.rows.length;
  for (std::int32_t row = first; row < end; ++row) {
    T* line = tile.scratch + (row - first) * std::int64_t{kTile} * depth;
    for (int x = 0; x < tile.width; ++x) {
      const std::int64_t pixel = tile.left + x;
      const T* cells = embedding + (row * tile.row_cells + tile.columns.first[pixel]) * depth;
      weighted_sum(cells, depth, tile.columns.weights + pixel * tile.columns.length, tile.columns.length,
                   line + x * depth, vectors);
    }
  }
  for (int y = 0; y < tile.height; ++y) {
    const std::int64_t pixel = tile.top + y;
    const T* lines = tile.scratch + (tile.rows.first[pixel] - first) * std::int64_t{kTile} * depth;
    weighted_sum(lines, std::int64_t{kTile} * depth, tile.rows.weights + pixel * tile.rows.length, tile.rows.length,
                 out + y * std::int64_t{kTile} * depth, tile.width * vectors);
  }
}

// Adds to kBlock vectors of `out` as many rows as there are weights, each times its weight.
template <int kBlock, class T>
CROWDSEG_HD void add_block(const T* rows, std::int64_t stride, const T* weights, const T* end, T* out) {
  Vec<T> sum[kBlock];
  for (int k = 0; k < kBlock; ++k) sum[k] = load(out + k * kLanes<T>);
  for (; weights < end; ++weights, rows += stride) {
    const Vec<T> weight = splat(*weights);
    for (int k = 0; k < kBlock; ++k) sum[k] = multiply_add(load(rows + k * kLanes<T>), weight, sum[k]);
  }
  for (int k = 0; k < kBlock; ++k) store(out + k * kLanes<T>, sum[k]);
}

// Adds to `out` (count vectors) what a cell gets from the rows of `size` pixels, the first of them pixel `start`.
template <class T>
CROWDSEG_HD void gather(const BandTable<T>& table, std::int32_t cell, std::int64_t start, int size, const T* rows,
                        std::int64_t stride, T* out, int count) {
  const std::int64_t first = larger<std::int64_t>(table.pixels[cell].first, start);
  const std::int64_t last = smaller<std::int64_t>(table.pixels[cell].last, start + size);
  const T* weights = table.cell_weights + table.cell_start[cell] + first - table.pixels[cell].first;
  const T* end = weights + larger<std::int64_t>(last - first, 0);
  rows += (first - start) * stride;
  for (; count >= 8; count -= 8, rows += 8 * kLanes<T>, out += 8 * kLanes<T>) {
    add_block<8>(rows, stride, weights, end, out);
  }
  for (; count >= 2; count -= 2, rows += 2 * kLanes<T>, out += 2 * kLanes<T>) {
    add_block<2>(rows, stride, weights, end, out);
  }
  if (count) add_block<1>(rows, stride, weights, end, out);
}

template <class T>
void spread(const Tile<T>& tile, const T* gradient, T* out) {
  const int depth = tile.depth, vectors = depth / kLanes<T>;
  const std::int64_t line_size = std::int64_t{kTile} * depth;
  const std::int32_t first = tile.rows.first[tile.top];
  const std::int32_t end = tile.rows.first[tile.top + tile.height - 1] + tile.rows.length;
  const std::int32_t left = tile.columns.first[tile.left];
  const std::int32_t right = tile.columns.first[tile.left + tile.width - 1] + tile.columns.length;
  T* line = tile.scratch;
  for (std::int32_t row = first; row < end; ++row) {
    std::memset(line, 0, line_size * sizeof(T));
    gather(tile.rows, row, tile.top, tile.height, gradient, line_size, line, tile.width * vectors);
    for (std::int32_t cell = left; cell < right; ++cell) {
      T* to = out + (row * tile.row_cells + cell) * depth;
      gather(tile.columns, cell, tile.left, tile.width, line, depth, to, vectors);
    }
  }
}

// The rows of a circle in a tile: visit(row, column, pixels), in pixels of the tile.
template <class T, class Visit>
CROWDSEG_HD void for_runs(const Tile<T>& tile, const Patch& patch, const Visit& visit) {
  const std::int64_t from = larger(patch.top, tile.top);
  const std::int64_t to = smaller(patch.top + patch.height, tile.top + tile.height);
  for (std::int64_t y = from; y < to; ++y) {
    const Span span = patch.spans[y - patch.top];
    const int first = static_cast<int>(larger<std::int64_t>(span.first - tile.left, 0));
    const int last = static_cast<int>(smaller<std::int64_t>(span.last - tile.left, tile.width));
    if (first < last) visit(static_cast<int>(y - tile.top), first, last - first);
  }
}

// Where in the tile's features the pixels of a circle are, run after run, so that vectors are full however short the runs.
struct Pixels {
  std::int32_t offset[kTile * kTile + kPadding];
  int count = 0;

  template <class T>
  Pixels(const Tile<T>& tile, const Patch& patch) {
    const Int<float> steps = iota<float>() * tile.depth;
    for_runs(tile, patch, [&](int y, int x, int run) {
      for (int i = 0; i < run; i += kLanes<float>) {
        store(offset + count + i, steps + (y * kTile + x + i) * tile.depth);
      }
      count += run;
    });
    store(offset + count, Int<float>{});  // what the last vector reads past the end is the first pixel
  }
};

// |F - c|^2 of kLanes pixels.
template <class T, int kVectors>
CROWDSEG_HD Vec<T> distances2(const T* features, const std::int32_t* offsets, const T* center,
                              Depth<T, kVectors> depth) {
  Vec<T> parts[kLanes<T>];
  for (int p = 0; p < kLanes<T>; ++p) {
    const T* pixel = features + offsets[p];
    Vec<T> sum{};
    for (int v = 0; v < depth.count(); ++v) {
      const Vec<T> difference = load(pixel + v * kLanes<T>) - load(center + v * kLanes<T>);
      sum = v == 0 ? difference * difference : multiply_add(difference, difference, sum);
    }
    parts[p] = sum;
  }
  return sums(parts);
}

template <class T>
void labels(const Tile<T>& tile, const std::int32_t* labels, const bool* valid, std::int64_t row_pixels,
            std::int32_t* out) {
  for (int y = 0; y < tile.height; ++y, out += kTile) {
    const std::int64_t row = (tile.top + y) * row_pixels + tile.left;
    int x = 0;
    for (; x + kLanes<float> <= tile.width; x += kLanes<float>) {
      const Int<float> use = load_flags(valid + row + x);
      store(out + x, (use & load(labels + row + x)) | (~use & kInvalid));
    }
    for (; x < tile.width; ++x) out[x] = valid[row + x] ? labels[row + x] : kInvalid;
  }
}

template <class T>
Counts count(const Tile<T>& tile, const Patch& patch, const std::int32_t* labels, std::int32_t label) {
  Int<float> pull{}, push{};  // minus the counts: true is -1
  for_runs(tile, patch, [&](int y, int x, int run) {
    for (int i = 0; i < run; i += kLanes<float>) {
      const Int<float> found = load(labels + y * kTile + x + i), inside = iota<float>() < run - i;
      pull += inside & (found == label);
      push += inside & (found != label) & (found != kInvalid);
    }
  });
  Counts counts{};
  for (int i = 0; i < kLanes<float>; ++i) {
    counts.pull -= pull[i];
    counts.push -= push[i];
  }
  return counts;
}

// Adds the gradient of the first `count` of kLanes pixels, whose slopes are given, and the centre's (depth,).
// Not inlined: the compiler would keep what the distances used, and run out of registers.
template <class T, int kVectors>
__attribute__((noinline)) void add_gradient(Vec<T> slope, int count, const std::int32_t* offsets, const T* features, const T* center,
                              T* gradient, T* center_gradient, Depth<T, kVectors> depth) {
  constexpr int kBlock = kVectors ? kVectors : 1;  // vectors whose sums stay in registers
  T slopes[kLanes<T>];
  store(slopes, slope);
  for (int first = 0; first < depth.count() * kLanes<T>; first += kBlock * kLanes<T>) {
    Vec<T> sum[kBlock];
    for (int v = 0; v < kBlock; ++v) sum[v] = load(center_gradient + first + v * kLanes<T>);
    for (int p = 0; p < count; ++p) {
      const Vec<T> s = splat(slopes[p]);
      for (int v = 0; v < kBlock; ++v) {
        const int channel = first + v * kLanes<T>;
        const Vec<T> difference = load(features + offsets[p] + channel) - load(center + channel);
        T* to = gradient + offsets[p] + channel;
        store(to, multiply_add(s, difference, load(to)));
        sum[v] = multiply_add(-s, difference, sum[v]);
      }
    }
    for (int v = 0; v < kBlock; ++v) store(center_gradient + first + v * kLanes<T>, sum[v]);
  }
}

template <class T, int kVectors>
double pull_push(const Tile<T>& tile, const Patch& patch, const PullPush<T>& task, const std::int32_t* labels,
                 const T* features, T* gradient, T* center_gradient) {
  const Depth<T, kVectors> depth(tile.depth);
  const Hinge<Vec<T>> hinge{splat(task.near), splat(task.far), splat(task.rounding)};
  const Vec<T> pull_weight = splat(task.pull), push_weight = splat(task.push);
  const Pixels pixels(tile, patch);
  std::int32_t found[kTile * kTile + kPadding];  // the pixels' labels
  std::int32_t* next = found;
  for_runs(tile, patch, [&](int y, int x, int run) {
    for (int i = 0; i < run; i += kLanes<float>) store(next + i, load(labels + y * kTile + x + i));
    next += run;
  });
  store(next, Int<float>{} + kInvalid);
  Vec<T> loss{};
  for (int i = 0; i < pixels.count; i += kLanes<T>) {
    const Int<T> label = load_labels(found + i, T{}), pull = label == task.label;
    const Vec<T> weight = select(label != kInvalid, select(pull, pull_weight, push_weight), Vec<T>{});
    const Vec<T> distance = square_root(distances2(features, pixels.offset + i, task.center, depth));
    const Vec<T> slack = hinge.slack(pull, distance);
    loss = multiply_add(weight, slack, loss);
    if (!gradient) continue;
    const Vec<T> slope = weight * hinge.slope(pull, distance, slack);
    if (!any<T>(slope != Vec<T>{})) continue;
    add_gradient(slope, smaller(kLanes<T>, pixels.count - i), pixels.offset + i, features, task.center, gradient,
                 center_gradient, depth);
  }
  double total = 0;
  for (int i = 0; i < kLanes<T>; ++i) total += loss[i];
  return total;
}

// Where `value` is below `best`, and `allowed`, it and `index` take the place.
template <class T>
CROWDSEG_HD void compete(Int<T> allowed, Vec<T> value, Label<T> index, T* best, Label<T>* owner) {
  const Vec<T> before = load(best);
  const Int<T> wins = allowed & (value < before);
  store(best, select(wins, value, before));
  store(owner, (wins & (index - Int<T>{})) | (~wins & load(owner)));
}

template <class T, int kVectors>
void energy_masks(const Tile<T>& tile, const Patch& patch, const Energy<T>& task, const T* features, Label<T> index,
                  T* best, Label<T>* owner) {
  const Depth<T, kVectors> depth(tile.depth);
  const Vec<T> shrink = splat(task.shrink), threshold = splat(task.threshold);
  const Vec<T> steps = __builtin_convertvector(iota<T>(), Vec<T>);
  const Pixels pixels(tile, patch);
  T distances[kTile * kTile + kPadding];
  for (int i = 0; i < pixels.count; i += kLanes<T>) {
    store(distances + i, square_root(distances2(features, pixels.offset + i, task.center, depth)));
  }
  const T* next = distances;
  for_runs(tile, patch, [&](int y, int x, int run) {
    const T dy = static_cast<T>(static_cast<double>(tile.top + y) - task.y);
    const Vec<T> dy2 = splat(dy * dy);
    for (int i = 0; i < run; i += kLanes<T>) {
      const int place = y * kTile + x + i;
      const Vec<T> dx = steps + splat(static_cast<T>(static_cast<double>(tile.left + x + i) - task.x));
      const Vec<T> value = energy(load(next + i), dx * dx + dy2, shrink);
      compete<T>((iota<T>() < run - i) & (value < threshold), value, index, best + place, owner + place);
    }
    next += run;
  });
}

void nearest(const Tile<double>& tile, const Patch& patch, double x, double y, Label<double> index, double* best,
             Label<double>* owner) {
  for_runs(tile, patch, [&](int row, int column, int run) {
    const double dy = static_cast<double>(tile.top + row) - y;
    const Vec<double> dy2 = splat(dy * dy), center = splat(x);
    for (int i = 0; i < run; i += kLanes<double>) {
      const int place = row * kTile + column + i;
      const Vec<double> dx = splat(static_cast<double>(tile.left + column + i)) + Vec<double>{0, 1, 2, 3} - center;
      compete<double>(iota<double>() < run - i, dx * dx + dy2, index, best + place, owner + place);
    }
  });
}

template <class T, int kVectors>
TileKernels<T> table() {
  return {features<T>, spread<T>, labels<T>, count<T>, pull_push<T, kVectors>, energy_masks<T, kVectors>, nearest};
}

}  // namespace

template <class T>
TileKernels<T> tile_kernels(int depth) {
  switch (depth / kLanes<T>) {
    case 1: return table<T, 1>();
    case 2: return table<T, 2>();
    case 4: return table<T, 4>();
    default: return table<T, 0>();
  }
}

template TileKernels<float> tile_kernels<float>(int);
template TileKernels<double> tile_kernels<double>(int);

}  // namespace crowdseg::CROWDSEG_ISA
