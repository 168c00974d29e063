// Pixels and centres: the pull/push loss, and pixels won by energy or by distance.
#pragma once

#include "cpu/simd/pixels.h"
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

}  // namespace

}  // namespace crowdseg::CROWDSEG_ISA
