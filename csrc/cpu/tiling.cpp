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
  const auto row_spans = tile_kernels<double>(0).spans;
  parallel_for(boxes_.size(), threads, 512, [&](std::int64_t i, int) {
    Box& box = boxes_[i];
    box.columns = row_spans(circle(i), box.rows, static_cast<std::int32_t>(width), spans_.data() + box.spans);
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

namespace {

// Channels filled up to whole vectors.
template <class T>
int padded_depth(std::int64_t channels) {
  const std::int64_t lanes = instruction_set().vector_bytes / sizeof(T);
  return static_cast<int>((channels + lanes - 1) / lanes * lanes);
}

}  // namespace

template <class T>
AxisBands<T>::AxisBands(std::int64_t pixels, std::int64_t cells, const View<const double, 1>& taps)
    : axis(make_axis(pixels, cells, taps.data, taps.size[0])), first_(pixels), pixels_(cells, Span{0, 0}),
      cell_start_(cells), weights_(pixels * axis.length) {
  std::vector<double> weights(axis.length);
  for (std::int32_t pixel = 0; pixel < pixels; ++pixel) {
    first_[pixel] = static_cast<std::int32_t>(band(axis, pixel, weights.data()));
    std::copy(weights.begin(), weights.end(), &weights_[pixel * axis.length]);
    for (std::int32_t cell = first_[pixel]; cell < first_[pixel] + axis.length; ++cell) {
      if (weights[cell - first_[pixel]] == 0) continue;
      if (pixels_[cell].last == 0) pixels_[cell].first = pixel;
      pixels_[cell].last = pixel + 1;
    }
  }
  for (std::int32_t cell = 0; cell < cells; ++cell) {
    cell_start_[cell] = cell_weights_.size();
    for (std::int32_t pixel = pixels_[cell].first; pixel < pixels_[cell].last; ++pixel) {
      cell_weights_.push_back(weights_[pixel * axis.length + cell - first_[pixel]]);
    }
  }
}

template <class T>
std::int64_t AxisBands<T>::at(double position, T* weights) const {
  position = clamped(position, 0.0, static_cast<double>(axis.pixels - 1));
  // Between two pixels lies the mix of both, whose bands begin in the same cell or in neighbours.
  const std::int64_t low = static_cast<std::int64_t>(position), high = std::min(low + 1, axis.pixels - 1);
  const T fraction = static_cast<T>(position - low);
  const T *before = &weights_[low * axis.length], *after = &weights_[high * axis.length];
  const int shift = first_[high] - first_[low];
  for (int k = 0; k < axis.length; ++k) weights[k] = (1 - fraction) * before[k];
  for (int k = 0; k + shift < axis.length; ++k) weights[k + shift] += fraction * after[k];
  return first_[low];
}

template <class T>
FeatureMap<T>::FeatureMap(const View<const T, 4>& embedding, std::int64_t height, std::int64_t width,
                          const View<const double, 1>& taps, int threads)
    : depth(padded_depth<T>(embedding.size[1])),
      rows(height, embedding.size[2], taps), columns(width, embedding.size[3], taps), kernels_(tile_kernels<T>(depth)), embedding_(embedding),
      cells_(embedding.size[0] * image_size()) {
  const std::int64_t channels = embedding.size[1], cell_rows = embedding.size[2], cell_columns = embedding.size[3];
  parallel_for(embedding.size[0] * cell_rows, threads, 128, [&](std::int64_t line, int) {
    const T* in = &embedding(line / cell_rows, 0, line % cell_rows, 0);
    T* out = cells_ + line * cell_columns * depth;
    if (embedding.stride[3] == 1) {
      kernels_.interleave(in, embedding.stride[1], static_cast<int>(channels), cell_columns, depth, out);
      return;
    }
    for (std::int64_t x = 0; x < cell_columns; ++x, out += depth, in += embedding.stride[3]) {
      for (std::int64_t d = 0; d < depth; ++d) out[d] = d < channels ? in[d * embedding.stride[1]] : 0;
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
Cells<T> FeatureMap<T>::cells(double x, double y) const {
  static thread_local std::vector<T> along, across;
  along.resize(rows.axis.length);
  across.resize(columns.axis.length);
  const std::int64_t top = rows.at(y, along.data()), left = columns.at(x, across.data());
  const std::int64_t row_stride = columns.axis.cells * depth;
  return {top * row_stride + left * depth, row_stride, rows.axis.length, columns.axis.length, along.data(),
          across.data()};
}

template <class T>
void FeatureMap<T>::read(std::int64_t index, double x, double y, T* out) const {
  kernels_.read(cells(x, y), image(index), depth, out);
}

template <class T>
void FeatureMap<T>::spread(const T* values, double x, double y, T* gradient) const {
  kernels_.spread_point(cells(x, y), values, depth, gradient);
}

template class AxisBands<float>;
template class AxisBands<double>;
template class FeatureMap<float>;
template class FeatureMap<double>;

}  // namespace crowdseg
