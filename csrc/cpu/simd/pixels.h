// The pixels of circles: which they are, what labels they have.
#pragma once

#include "cpu/simd/vec.h"
#include "cpu/tile_kernels.h"

namespace crowdseg::CROWDSEG_ISA {

namespace {

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

}  // namespace

}  // namespace crowdseg::CROWDSEG_ISA
