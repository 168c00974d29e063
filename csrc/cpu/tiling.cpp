#include "cpu/tiling.h"

#include <algorithm>

#include "cpu/parallel.h"

namespace crowdseg {

Discs::Discs(const Points& points, const View<const double, 1>& radii, std::int64_t height, std::int64_t width,
             int threads)
    : boxes_(radii.size[0]) {
  const auto circle = [&](std::int64_t i) {
    return Circle{points.xy(i, 0), points.xy(i, 1), reach_squared(radii(i))};
  };
  std::int64_t size = 0;
  for (std::size_t i = 0; i < boxes_.size(); ++i) {
    const Circle c = circle(i);
    const Span rows = reach_span(c.y, std::sqrt(c.reach2), height);
    boxes_[i] = {rows, {0, 0}, size};
    size += rows.last - rows.first;
  }
  spans_.resize(size);
  parallel_for(boxes_.size(), threads, 64, [&](std::int64_t i, int) {
    Box& box = boxes_[i];
    box.columns = {static_cast<std::int32_t>(width), 0};
    for (std::int32_t row = box.rows.first; row < box.rows.last; ++row) {
      const Span span = row_span(circle(i), row, width);
      spans_[box.spans + row - box.rows.first] = span;
      if (span.first < span.last) {
        box.columns = {std::min(box.columns.first, span.first), std::max(box.columns.last, span.last)};
      }
    }
  });
}

TileCircles::TileCircles(const Points& points, const Discs& discs, const std::vector<char>& keep, std::int64_t height,
                         std::int64_t width)
    : images(points.offsets.size[0] - 1), rows((height + kTile - 1) / kTile), columns((width + kTile - 1) / kTile),
      start(images * rows * columns + 1) {
  const auto for_each = [&](const auto& visit) {
    for (std::int64_t image = 0; image < images; ++image) {
      for (std::int64_t i = points.offsets(image); i < points.offsets(image + 1); ++i) {
        const Span ys = discs.rows(i), xs = discs.columns(i);
        if (xs.first >= xs.last || (!keep.empty() && !keep[i])) continue;
        for (std::int64_t row = ys.first / kTile; row <= (ys.last - 1) / kTile; ++row) {
          for (std::int64_t column = xs.first / kTile; column <= (xs.last - 1) / kTile; ++column) {
            visit((image * rows + row) * columns + column, i);
          }
        }
      }
    }
  };
  for_each([&](std::int64_t tile, std::int64_t) { ++start[tile + 1]; });
  for (std::size_t tile = 1; tile < start.size(); ++tile) start[tile] += start[tile - 1];
  circle.resize(start.back());
  std::vector<std::int64_t> next(start.begin(), start.end() - 1);
  for_each([&](std::int64_t tile, std::int64_t i) { circle[next[tile]++] = i; });
}

template <class T>
AxisBands<T>::AxisBands(std::int64_t pixels, std::int64_t cells, const View<const double, 1>& taps)
    : axis(axis_of(pixels, cells, taps)), first_(pixels), pixels_(2 * cells, 0), weights_(pixels * axis.length) {
  std::vector<double> weights(axis.length);
  for (std::int64_t pixel = 0; pixel < pixels; ++pixel) {
    first_[pixel] = static_cast<std::int32_t>(band(axis, static_cast<double>(pixel), weights.data()));
    std::copy(weights.begin(), weights.end(), &weights_[pixel * axis.length]);
    for (std::int32_t cell = first_[pixel]; cell < first_[pixel] + axis.length; ++cell) {
      if (pixels_[2 * cell + 1] == 0) pixels_[2 * cell] = static_cast<std::int32_t>(pixel);
      pixels_[2 * cell + 1] = static_cast<std::int32_t>(pixel + 1);
    }
  }
}

template <class T>
FeatureMap<T>::FeatureMap(const View<const T, 4>& embedding, std::int64_t height, std::int64_t width,
                          const View<const double, 1>& taps, int threads)
    : depth(static_cast<int>((embedding.size[1] * sizeof(T) + 31) / 32 * 32 / sizeof(T))),
      rows(height, embedding.size[2], taps), columns(width, embedding.size[3], taps), embedding_(embedding),
      reader_(height, width, embedding.size[2], embedding.size[3], taps), cells_(embedding.size[0] * image_size()) {
  const std::int64_t channels = embedding.size[1], cell_rows = embedding.size[2], cell_columns = embedding.size[3];
  parallel_for(embedding.size[0] * cell_rows, threads, 16, [&](std::int64_t line, int) {
    T* out = cells_ + line * cell_columns * depth;
    const T* in = &embedding(line / cell_rows, 0, line % cell_rows, 0);
    for (std::int64_t x = 0; x < cell_columns; ++x, out += depth, in += embedding.stride[3]) {
      for (std::int64_t d = 0; d < channels; ++d) out[d] = in[d * embedding.stride[1]];
      for (std::int64_t d = channels; d < depth; ++d) out[d] = 0;
    }
  });
}

template <class T>
std::int64_t FeatureMap<T>::scratch_size() const {
  std::int64_t most = 0;
  for (std::int64_t top = 0; top < rows.axis.pixels; top += kTile) {
    const Span cells = rows.cells(top, std::min(top + kTile, rows.axis.pixels));
    most = std::max<std::int64_t>(most, cells.last - cells.first);
  }
  return most * kTile * depth;
}

template <class T>
Tile<T> FeatureMap<T>::tile(std::int64_t row, std::int64_t column, T* scratch) const {
  Tile<T> tile = tile_at<T>(row, column, rows.axis.pixels, columns.axis.pixels);
  tile.depth = depth;
  tile.rows = rows.table();
  tile.columns = columns.table();
  tile.row_cells = columns.axis.cells;
  tile.scratch = scratch;
  return tile;
}

template <class T>
void FeatureMap<T>::read(std::int64_t index, double x, double y, T* out) const {
  std::fill_n(out, depth, T{0});
  reader_.visit(x, y, [&](std::int64_t row, std::int64_t column, double weight) {
    const T* cell = image(index) + (row * columns.axis.cells + column) * depth;
    for (int d = 0; d < depth; ++d) out[d] += static_cast<T>(weight) * cell[d];
  });
}

template <class T>
void FeatureMap<T>::spread(const T* values, double x, double y, T* gradient) const {
  reader_.visit(x, y, [&](std::int64_t row, std::int64_t column, double weight) {
    T* cell = gradient + (row * columns.axis.cells + column) * depth;
    for (int d = 0; d < depth; ++d) cell[d] += static_cast<T>(weight) * values[d];
  });
}

template class AxisBands<float>;
template class AxisBands<double>;
template class FeatureMap<float>;
template class FeatureMap<double>;

}  // namespace crowdseg
