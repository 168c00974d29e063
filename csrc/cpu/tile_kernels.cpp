// Compiled once per instruction set: CROWDSEG_ISA names it.
#include "cpu/tile_kernels.h"

#include <cstring>

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

// Two lines at a time: what both are sums of is loaded once. Weights of line b are counted from line a's first piece.
template <class T>
CROWDSEG_HD void two_sums(const T* in, std::int64_t step, const T* a, const T* b, T* out_a, T* out_b, std::int64_t size) {
  Vec<T> wa[4], wb[4];
  for (int k = 0; k < 4; ++k) {
    wa[k] = splat(a[k]);
    wb[k] = splat(b[k]);
  }
  for (std::int64_t i = 0; i < size; i += kLanes<T>) {
    const Vec<T> first = load(in + i);
    Vec<T> sum_a = first * wa[0], sum_b = first * wb[0];
    for (int k = 1; k < 4; ++k) {
      const Vec<T> next = load(in + k * step + i);
      sum_a = multiply_add(next, wa[k], sum_a);
      sum_b = multiply_add(next, wb[k], sum_b);
    }
    store(out_a + i, sum_a);
    store(out_b + i, sum_b);
  }
}

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
    if (tile.rows.length == 4 && y + 1 < tile.height && tile.rows.first[pixel] == tile.rows.first[pixel + 1]) {
      const T* weights = tile.rows.weights + pixel * 4;
      two_sums(tile.scratch + (tile.rows.first[pixel] - cells.top) * line, line, weights, weights + 4, out + y * line,
               out + (y + 1) * line, tile.width * depth);
      ++y;
      continue;
    }
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
        store_labels<float>(offset + count + i, steps + (y * kTile + x + i) * tile.depth);
      }
      count += run;
    });
    store_labels<float>(offset + count, Int<float>{});  // what the last vector reads past the end is the first pixel
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
      store_labels<float>(out + x, (use & load_labels<float>(labels + row + x)) | (~use & kInvalid));
    }
    for (; x < tile.width; ++x) out[x] = valid[row + x] ? labels[row + x] : kInvalid;
  }
}

template <class T>
Counts count(const Tile<T>& tile, const Patch& patch, const std::int32_t* labels, std::int32_t label) {
  Int<float> pull{}, push{};  // minus the counts: true is -1
  for_runs(tile, patch, [&](int y, int x, int run) {
    for (int i = 0; i < run; i += kLanes<float>) {
      const Int<float> found = load_labels<float>(labels + y * kTile + x + i), inside = iota<float>() < run - i;
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
    for (int i = 0; i < run; i += kLanes<float>) store_labels<float>(next + i, load_labels<float>(labels + y * kTile + x + i));
    next += run;
  });
  store_labels<float>(next, Int<float>{} + kInvalid);
  Vec<T> loss{};
  for (int i = 0; i < pixels.count; i += kLanes<T>) {
    const Int<T> label = __builtin_convertvector(load_labels<T>(found + i), Int<T>), pull = label == task.label;
    const Vec<T> weight = select(label != kInvalid, select(pull, pull_weight, push_weight), Vec<T>{});
    const Vec<T> distance = square_root(distances2(features, pixels.offset + i, task.center, depth));
    const Vec<T> slack = select(weight > Vec<T>{}, hinge.slack(pull, distance), Vec<T>{});
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
CROWDSEG_HD void compete(Int<T> allowed, Vec<T> value, std::int32_t index, T* best, std::int32_t* owner) {
  using Labels = typename LabelsOf<T>::Type;
  const Vec<T> before = load(best);
  const Int<T> wins = allowed & (value < before);
  store(best, select(wins, value, before));
  const Labels changes = __builtin_convertvector(wins, Labels);
  store_labels<T>(owner, (changes & index) | (~changes & load_labels<T>(owner)));
}

template <class T, int kVectors>
void energy_masks(const Tile<T>& tile, const Patch& patch, const Energy<T>& task, const T* features, std::int32_t index,
                  T* best, std::int32_t* owner) {
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

void nearest(const Tile<double>& tile, const Patch& patch, double x, double y, std::int32_t index, double* best,
             std::int32_t* owner) {
  const Vec<double> steps = __builtin_convertvector(iota<double>(), Vec<double>), center = splat(x);
  for_runs(tile, patch, [&](int row, int column, int run) {
    const double dy = static_cast<double>(tile.top + row) - y;
    const Vec<double> dy2 = splat(dy * dy);
    for (int i = 0; i < run; i += kLanes<double>) {
      const int place = row * kTile + column + i;
      const Vec<double> dx = splat(static_cast<double>(tile.left + column + i)) + steps - center;
      compete<double>(iota<double>() < run - i, dx * dx + dy2, index, best + place, owner + place);
    }
  });
}

// Lanes of numbers within int32, rounded up.
CROWDSEG_HD LabelsOf<double>::Type ceiling(Vec<double> value) {
  using Ints = LabelsOf<double>::Type;
  const Ints whole = __builtin_convertvector(value, Ints);
  return whole - __builtin_convertvector(__builtin_convertvector(whole, Vec<double>) < value, Ints);
}

// Takes off both ends of a row's span what lies outside the circle.
CROWDSEG_HD Span trimmed(Span span, const Circle& circle, std::int32_t row) {
  while (span.first < span.last && !circle.contains(span.first, row)) ++span.first;
  while (span.first < span.last && !circle.contains(span.last - 1, row)) --span.last;
  return span;
}

// As many rows at once as there are lanes. Where rounding could move an end, the pixels there are tested.
Span spans(const Circle& circle, Span rows, std::int32_t width, Span* out) {
  using Ints = LabelsOf<double>::Type;
  constexpr int kRows = kLanes<double>;
  const Vec<double> steps = __builtin_convertvector(iota<double>(), Vec<double>);
  const auto within = [&](Vec<double> column) {
    const Vec<double> lowest = splat(-2.0), highest = splat(width + 1.0);
    return select(column < lowest, lowest, select(column > highest, highest, column));
  };
  Ints leftmost = Ints{} + width, rightmost{};
  for (std::int32_t row = rows.first; row < rows.last; row += kRows, out += kRows) {
    const int count = smaller(kRows, rows.last - row);
    const Vec<double> dy = steps + splat(row - circle.y), rest = splat(circle.reach2) - dy * dy;
    const Int<double> used = (rest >= Vec<double>{}) & (iota<double>() < count);
    const Vec<double> reach = square_root(select(used, rest, Vec<double>{}));
    const Vec<double> rounding = splat(1e-6) + reach * 1e-6, doubt = select(rounding < splat(1.0), rounding, splat(1.0));
    const Vec<double> left = within(splat(circle.x) - reach), right = within(splat(circle.x) + reach);
    const Ints first = ceiling(left - doubt), last = 1 - ceiling(-right - doubt);
    const Ints doubtful = (first != ceiling(left + doubt)) | (last != 1 - ceiling(-right + doubt));
    const Ints use = __builtin_convertvector(used, Ints);
    Ints begin = use & (first > 0 ? first : Ints{}), end = use & (last < width ? last : Ints{} + width);
    for (int i = 0; i < count; ++i) {
      out[i] = doubtful[i] ? trimmed({begin[i], end[i]}, circle, row + i) : Span{begin[i], end[i]};
    }
    begin = begin < end ? begin : Ints{} + width;
    leftmost = begin < leftmost ? begin : leftmost;
    rightmost = end > rightmost ? end : rightmost;
  }
  Span all{leftmost[0], rightmost[0]};
  for (int i = 1; i < kRows; ++i) all = {smaller(all.first, leftmost[i]), larger(all.last, rightmost[i])};
  return all;
}

template <class T, int kVectors>
TileKernels<T> table() {
  return {interleave<T>,           separate<T>, read<T>,  spread_point<T>, features<T>, spread<T>, labels<T>, count<T>, pull_push<T, kVectors>, energy_masks<T, kVectors>, spans, nearest};
}

}  // namespace

template <class T>
TileKernels<T> tile_kernels(int depth) {
  switch (depth / kLanes<T>) {
    case 1: return table<T, 1>();
    case 2: return table<T, 2>();
    default: return table<T, 0>();
  }
}

template TileKernels<float> tile_kernels<float>(int);
template TileKernels<double> tile_kernels<double>(int);

}  // namespace crowdseg::CROWDSEG_ISA
