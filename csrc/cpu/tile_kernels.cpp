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
  if (length == 4) {  // stride 4, the network's
    const Vec<T> a = splat(weights[0]), b = splat(weights[1]), c = splat(weights[2]), d = splat(weights[3]);
    for (int i = 0; i < count * kLanes<T>; i += kLanes<T>) {
      Vec<T> sum = load(rows + i) * a;
      sum = multiply_add(load(rows + stride + i), b, sum);
      sum = multiply_add(load(rows + 2 * stride + i), c, sum);
      store(out + i, multiply_add(load(rows + 3 * stride + i), d, sum));
    }
    return;
  }
  for (int i = 0; i < count * kLanes<T>; i += kLanes<T>) {
    Vec<T> sum{};
    for (int k = 0; k < length; ++k) sum = multiply_add(load(rows + k * stride + i), splat(weights[k]), sum);
    store(out + i, sum);
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

// `out` (count vectors) = the sum of the pixels from..to's rows, each times its band's weight for `cell`.
template <class T>
CROWDSEG_HD void gather(const BandTable<T>& table, std::int32_t cell, std::int64_t from, std::int64_t to, const T* rows,
                        std::int64_t stride, T* out, int count) {
  constexpr int kBlock = 4;  // sums kept in registers
  const auto weight = [&](std::int64_t pixel) {
    return splat(table.weights[pixel * table.length + cell - table.first[pixel]]);
  };
  int i = 0;
  for (; i + kBlock <= count; i += kBlock) {
    Vec<T> sum[kBlock] = {};
    for (std::int64_t pixel = from; pixel < to; ++pixel) {
      const Vec<T> w = weight(pixel);
      const T* row = rows + (pixel - from) * stride + i * kLanes<T>;
      for (int k = 0; k < kBlock; ++k) sum[k] = multiply_add(load(row + k * kLanes<T>), w, sum[k]);
    }
    for (int k = 0; k < kBlock; ++k) store(out + (i + k) * kLanes<T>, load(out + (i + k) * kLanes<T>) + sum[k]);
  }
  for (; i < count; ++i) {
    Vec<T> sum{};
    for (std::int64_t pixel = from; pixel < to; ++pixel) {
      sum = multiply_add(load(rows + (pixel - from) * stride + i * kLanes<T>), weight(pixel), sum);
    }
    store(out + i * kLanes<T>, load(out + i * kLanes<T>) + sum);
  }
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
    const std::int64_t from = larger<std::int64_t>(tile.rows.pixels[2 * row], tile.top);
    const std::int64_t to = smaller<std::int64_t>(tile.rows.pixels[2 * row + 1], tile.top + tile.height);
    std::memset(line, 0, line_size * sizeof(T));
    gather(tile.rows, row, from, to, gradient + (from - tile.top) * line_size, line_size, line, tile.width * vectors);
    for (std::int32_t cell = left; cell < right; ++cell) {
      const std::int64_t start = larger<std::int64_t>(tile.columns.pixels[2 * cell], tile.left);
      const std::int64_t stop = smaller<std::int64_t>(tile.columns.pixels[2 * cell + 1], tile.left + tile.width);
      gather(tile.columns, cell, start, stop, line + (start - tile.left) * depth, depth,
             out + (row * tile.row_cells + cell) * depth, vectors);
    }
  }
}

// |F - c|^2 of kLanes pixels from `features` on.
template <class T, int kVectors>
CROWDSEG_HD Vec<T> distances2(const T* features, const T* center, Depth<T, kVectors> depth) {
  Vec<T> parts[kLanes<T>];
  for (int p = 0; p < kLanes<T>; ++p) {
    const T* pixel = features + p * depth.count() * kLanes<T>;
    Vec<T> sum{};
    for (int v = 0; v < depth.count(); ++v) {
      const Vec<T> difference = load(pixel + v * kLanes<T>) - load(center + v * kLanes<T>);
      sum = v == 0 ? difference * difference : multiply_add(difference, difference, sum);
    }
    parts[p] = sum;
  }
  return sums(parts);
}

// Calls visit(first pixel of kLanes in the tile's arrays, mask of those in the circle) along the circle's rows.
template <class T, class Visit>
CROWDSEG_HD void for_lanes(const Tile<T>& tile, const Patch& patch, const Visit& visit) {
  const std::int64_t from = larger(patch.top, tile.top);
  const std::int64_t to = smaller(patch.top + patch.height, tile.top + tile.height);
  for (std::int64_t y = from; y < to; ++y) {
    const Span span = patch.spans[y - patch.top];
    const int first = static_cast<int>(larger<std::int64_t>(span.first - tile.left, 0));
    const int last = static_cast<int>(smaller<std::int64_t>(span.last - tile.left, tile.width));
    for (int x = first; x < last; x += kLanes<T>) {
      const Int<T> inside = iota<T>() < last - x;
      visit(static_cast<int>(y - tile.top), x, inside);
    }
  }
}

template <class T, int kVectors>
double pull_push(const Tile<T>& tile, const Patch& patch, const PullPush<T>& task, const std::int32_t* labels,
                 const T* features, T* gradient, T* center_gradient) {
  const Depth<T, kVectors> depth(tile.depth);
  const Hinge<Vec<T>> hinge{splat(task.near), splat(task.far), splat(task.rounding)};
  const Vec<T> pull_weight = splat(task.pull), push_weight = splat(task.push);
  Vec<T> loss{};
  for_lanes(tile, patch, [&](int y, int x, Int<T> inside) {
    const int place = y * kTile + x;
    const Int<T> label = load_labels(labels + place, T{});
    const Int<T> pull = label == task.label;
    const Vec<T> weight = select(inside & (label != kInvalid), select(pull, pull_weight, push_weight), Vec<T>{});
    const T* pixels = features + std::int64_t{place} * tile.depth;
    const Vec<T> distance = square_root(distances2(pixels, task.center, depth));
    const Vec<T> slack = select(inside, hinge.slack(pull, distance), Vec<T>{});
    loss = multiply_add(weight, slack, loss);
    if (!gradient) return;
    const Vec<T> slope = select(weight > Vec<T>{}, weight * hinge.slope(pull, distance, slack), Vec<T>{});
    if (!any<T>(slope != Vec<T>{})) return;
    T slopes[kLanes<T>];
    store(slopes, slope);
    for (int p = 0; p < kLanes<T>; ++p) {
      if (slopes[p] == 0) continue;
      const Vec<T> s = splat(slopes[p]);
      for (int v = 0; v < depth.count(); ++v) {
        const std::int64_t at = (p * depth.count() + v) * kLanes<T>;
        T* to = gradient + std::int64_t{place} * tile.depth + at;
        T* to_center = center_gradient + v * kLanes<T>;
        const Vec<T> part = s * (load(pixels + at) - load(task.center + v * kLanes<T>));
        store(to, load(to) + part);
        store(to_center, load(to_center) - part);
      }
    }
  });
  double total = 0;
  for (int i = 0; i < kLanes<T>; ++i) total += loss[i];
  return total;
}

template <class T, int kVectors>
void energy_masks(const Tile<T>& tile, const Patch& patch, const Energy<T>& task, const T* features,
                  std::int32_t index, T* best, std::int32_t* owner) {
  const Depth<T, kVectors> depth(tile.depth);
  const Vec<T> shrink = splat(task.shrink), threshold = splat(task.threshold);
  for_lanes(tile, patch, [&](int y, int x, Int<T> inside) {
    const int place = y * kTile + x;
    const Vec<T> distance = square_root(distances2(features + std::int64_t{place} * tile.depth, task.center, depth));
    const T dy = static_cast<T>(static_cast<double>(tile.top + y) - task.y);
    const Vec<T> dx = __builtin_convertvector(iota<T>(), Vec<T>) + splat(static_cast<T>(tile.left + x - task.x));
    const Vec<T> value = energy(distance, dx * dx + splat(dy * dy), shrink);
    const Vec<T> before = load(best + place);
    const Int<T> wins = inside & (value < threshold) & (value < before);
    if (!any<T>(wins)) return;
    store(best + place, select(wins, value, before));
    for (int i = 0; i < kLanes<T>; ++i) owner[place + i] = wins[i] ? index : owner[place + i];
  });
}

void nearest(const Tile<double>& tile, const Patch& patch, double x, double y, std::int32_t index, double* best,
             std::int32_t* owner) {
  using Doubles = Vec<double>;
  for_lanes(tile, patch, [&](int row, int column, Int<double> inside) {
    const int place = row * kTile + column;
    const double dy = static_cast<double>(tile.top + row) - y;
    const Doubles pixel = __builtin_convertvector(iota<double>() + (tile.left + column), Doubles);
    const Doubles dx = pixel - splat(x);
    const Doubles distance2 = dx * dx + splat(dy * dy);
    const Doubles before = load(best + place);
    const Int<double> wins = inside & (distance2 < before);
    store(best + place, select(wins, distance2, before));
    for (int i = 0; i < kLanes<double>; ++i) owner[place + i] = wins[i] ? index : owner[place + i];
  });
}

template <class T, int kVectors>
TileKernels<T> table() {
  return {features<T>, spread<T>, pull_push<T, kVectors>, energy_masks<T, kVectors>, nearest};
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
