// Pull/push loss and its gradient in one pass (xmask section 4).
//
// Given the number of pixels of each term, the loss is a weighted sum over pairs of a point and a pixel. Tiles are gone
// through row by row of tiles; rows that share cells of the embedding never run at the same time, and what they add to the
// gradient comes in a fixed order, so the result is the same for any number of threads.
#include <algorithm>
#include <cmath>

#include "cpu/drivers.h"
#include "cpu/parallel.h"
#include "cpu/tiling.h"

namespace crowdseg {

namespace {

struct Maps {
  View<const std::int32_t, 3> labels;
  View<const bool, 3> valid;
};

// What a point brings into the loss.
struct Term {
  std::int64_t row, column;  // its pixel
  std::int32_t label;
  bool candidate;  // on an instance and on a valid pixel
  double pull, push;  // weight of one pixel
};

std::int64_t nearest_pixel(double position, std::int64_t pixels) {
  return static_cast<std::int64_t>(clamped(std::nearbyint(position), 0.0, static_cast<double>(pixels - 1)));
}

Term term_at(double x, double y, const Maps& maps, std::int64_t image) {
  const std::int64_t row = nearest_pixel(y, maps.labels.size[1]), column = nearest_pixel(x, maps.labels.size[2]);
  const std::int32_t label = maps.labels(image, row, column);
  return {row, column, label, label > 0 && maps.valid(image, row, column), 0, 0};
}

// Valid pixels of a circle that share the point's label, and the others.
struct Counts {
  std::int64_t pull = 0, push = 0;
};

Counts count(const Patch& patch, std::int32_t label, const Maps& maps, std::int64_t image) {
  Counts counts;
  for (int y = 0; y < patch.height; ++y) {
    const std::int32_t* labels = &maps.labels(image, patch.top + y, 0);
    const bool* valid = &maps.valid(image, patch.top + y, 0);
    std::int32_t pull = 0, all = 0;
    for (std::int32_t x = patch.spans[y].first; x < patch.spans[y].last; ++x) {
      all += valid[x];
      pull += valid[x] & (labels[x] == label);
    }
    counts.pull += pull;
    counts.push += all - pull;
  }
  return counts;
}

// The terms of all points; weights are set for candidates with a pixel to pull, and 0 for all others.
std::vector<Term> terms_of(const Points& points, const Discs& discs, const Maps& maps, int threads) {
  std::vector<Term> terms(points.xy.size[0]);
  const std::int64_t images = maps.labels.size[0];
  for (std::int64_t image = 0; image < images; ++image) {
    const std::int64_t first = points.offsets(image), last = points.offsets(image + 1);
    parallel_for(last - first, threads, 16, [&](std::int64_t index, int) {
      Term& term = terms[first + index];
      term = term_at(points.xy(first + index, 0), points.xy(first + index, 1), maps, image);
      if (!term.candidate) return;
      const Counts counts = count(discs.patch(first + index), term.label, maps, image);
      term.candidate = counts.pull > 0;
      term.pull = 1.0 / std::max<std::int64_t>(counts.pull, 1);
      term.push = counts.push > 0 ? 1.0 / counts.push : 0;
    });
    const auto kept = std::count_if(&terms[first], &terms[last], [](const Term& term) { return term.candidate; });
    for (std::int64_t i = first; i < last; ++i) {
      terms[i].pull /= std::max<double>(kept, 1) * images;
      terms[i].push /= std::max<double>(kept, 1) * images;
    }
  }
  return terms;
}

// Memory of one thread.
template <class T>
struct Workspace {
  Buffer<T> features, gradient, scratch;
  Buffer<std::int32_t> labels;

  Workspace(const FeatureMap<T>& map)
      : features(tile_numbers(map.depth)), gradient(tile_numbers(map.depth)), scratch(map.scratch_size()),
        labels(tile_numbers()) {}
};

template <class T>
class PullPushLoss {
 public:
  PullPushLoss(const Points& points, const Discs& discs, const FeatureMap<T>& map, const Maps& maps,
               const PullPush<T>& settings, bool need_gradient, int threads)
      : discs_(discs), map_(map), maps_(maps), settings_(settings), threads_(threads),
        terms_(terms_of(points, discs, maps, threads)),
        circles_(points, discs, candidates(), maps.labels.size[1], maps.labels.size[2]),
        kernels_(tile_kernels<T>(map.depth)), centers_(terms_.size() * map.depth),
        center_gradients_(need_gradient ? circles_.circle.size() * map.depth : 0),
        gradient_(need_gradient ? circles_.images * map.image_size() : 0), need_gradient_(need_gradient) {
    std::fill_n(center_gradients_.data.get(), need_gradient ? circles_.circle.size() * map.depth : 0, T{0});
    std::fill_n(gradient_.data.get(), need_gradient ? circles_.images * map.image_size() : 0, T{0});
    read_centers(points);
  }

  double run() {
    std::vector<Workspace<T>> workspaces;
    for (int i = 0; i < usable_threads(threads_); ++i) workspaces.emplace_back(map_);
    std::vector<double> losses(circles_.images * circles_.rows);
    const std::int64_t apart = rows_apart();
    for (std::int64_t turn = 0; turn < apart; ++turn) {
      const std::int64_t rows = (circles_.rows - turn + apart - 1) / apart;
      parallel_for(circles_.images * std::max<std::int64_t>(rows, 0), threads_, 1, [&](std::int64_t job, int thread) {
        const std::int64_t row = job / rows * circles_.rows + turn + job % rows * apart;
        losses[row] = row_of_tiles(row, workspaces[thread]);
      });
    }
    if (need_gradient_) spread_centers();
    double loss = 0;
    for (const double part : losses) loss += part;
    return loss;
  }

  void write_gradient(const View<T, 4>& out) const {
    parallel_for(out.size[0] * out.size[2], threads_, 16, [&](std::int64_t line, int) {
      const std::int64_t image = line / out.size[2], y = line % out.size[2];
      const T* in = gradient_ + line * out.size[3] * map_.depth;
      for (std::int64_t d = 0; d < out.size[1]; ++d) {
        for (std::int64_t x = 0; x < out.size[3]; ++x) out(image, d, y, x) = in[x * map_.depth + d];
      }
    });
  }

 private:
  std::vector<char> candidates() const {
    std::vector<char> keep;
    for (const Term& term : terms_) keep.push_back(term.candidate);
    return keep;
  }

  void read_centers(const Points& points) {
    for (std::int64_t image = 0; image < circles_.images; ++image) {
      const std::int64_t first = points.offsets(image);
      parallel_for(points.offsets(image + 1) - first, threads_, 64, [&](std::int64_t index, int) {
        const Term& term = terms_[first + index];
        if (term.candidate) map_.read(image, term.column, term.row, centers_ + (first + index) * map_.depth);
      });
    }
  }

  // Rows of tiles this far apart share no cell.
  std::int64_t rows_apart() const {
    const std::int64_t height = map_.rows.axis.pixels;
    const auto cells = [&](std::int64_t row) {
      return map_.rows.cells(row * kTile, std::min((row + 1) * kTile, height));
    };
    std::int64_t apart = 1;
    for (std::int64_t row = 0; row + apart < circles_.rows;) {
      if (cells(row + apart).first < cells(row).last) ++apart;
      else ++row;
    }
    return apart;
  }

  // Loss of one row of tiles of one image; adds to the gradients.
  double row_of_tiles(std::int64_t row, Workspace<T>& workspace) {
    double loss = 0;
    for (std::int64_t index = row * circles_.columns; index < (row + 1) * circles_.columns; ++index) {
      if (!circles_.empty(index)) loss += tile_loss(index, workspace);
    }
    return loss;
  }

  double tile_loss(std::int64_t index, Workspace<T>& workspace) {
    const std::int64_t image = circles_.image(index);
    const Tile<T> tile = map_.tile(circles_.row(index), circles_.column(index), workspace.scratch);
    kernels_.features(tile, map_.image(image), workspace.features);
    copy_labels(tile, image, workspace.labels);
    T* gradient = need_gradient_ ? workspace.gradient.data.get() : nullptr;
    if (gradient) std::fill_n(gradient, tile.height * kTile * map_.depth, T{0});
    double loss = 0;
    for (std::int64_t entry = circles_.start[index]; entry < circles_.start[index + 1]; ++entry) {
      const std::int64_t i = circles_.circle[entry];
      PullPush<T> task = settings_;
      task.label = terms_[i].label;
      task.pull = static_cast<T>(terms_[i].pull);
      task.push = static_cast<T>(terms_[i].push);
      task.center = centers_ + i * map_.depth;
      loss += kernels_.pull_push(tile, discs_.patch(i), task, workspace.labels, workspace.features, gradient,
                                 gradient ? center_gradients_ + entry * map_.depth : nullptr);
    }
    if (gradient) kernels_.spread(tile, gradient, gradient_ + image * map_.image_size());
    return loss;
  }

  void copy_labels(const Tile<T>& tile, std::int64_t image, std::int32_t* out) const {
    for (int y = 0; y < tile.height; ++y) {
      const std::int32_t* labels = &maps_.labels(image, tile.top + y, tile.left);
      const bool* valid = &maps_.valid(image, tile.top + y, tile.left);
      for (int x = 0; x < tile.width; ++x) out[y * kTile + x] = valid[x] ? labels[x] : kInvalid;
    }
  }

  // The points' own part of the gradient, through the centre features.
  void spread_centers() {
    std::vector<T> sums(terms_.size() * map_.depth);
    std::vector<std::int64_t> image(terms_.size(), -1);
    for (std::int64_t tile = 0; tile < circles_.tiles(); ++tile) {
      for (std::int64_t entry = circles_.start[tile]; entry < circles_.start[tile + 1]; ++entry) {
        const std::int64_t i = circles_.circle[entry];
        image[i] = circles_.image(tile);
        for (int d = 0; d < map_.depth; ++d) sums[i * map_.depth + d] += center_gradients_[entry * map_.depth + d];
      }
    }
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      if (image[i] < 0) continue;
      map_.spread(&sums[i * map_.depth], terms_[i].column, terms_[i].row, gradient_ + image[i] * map_.image_size());
    }
  }

  const Discs& discs_;
  const FeatureMap<T>& map_;
  const Maps maps_;
  const PullPush<T> settings_;
  const int threads_;
  const std::vector<Term> terms_;
  const TileCircles circles_;
  const TileKernels<T> kernels_;
  Buffer<T> centers_;           // (N, depth)
  Buffer<T> center_gradients_;  // (entries of circles_, depth)
  Buffer<T> gradient_;          // (B, h, w, depth)
  const bool need_gradient_;
};

}  // namespace

template <class T>
void pull_push(Points points, Radii radii, View<const T, 4> embedding, View<const std::int32_t, 3> labels,
               View<const bool, 3> valid, Taps taps, double near, double far, double rounding, View<T, 1> loss,
               View<T, 4> grad, Threads threads) {
  const std::int64_t height = labels.size[1], width = labels.size[2];
  const Discs discs(points, radii, height, width, threads.count);
  const FeatureMap<T> map(embedding, height, width, taps, threads.count);
  PullPush<T> settings{};
  settings.near = static_cast<T>(near);
  settings.far = static_cast<T>(far);
  settings.rounding = static_cast<T>(rounding);
  const bool need_gradient = grad.size[0] > 0;
  PullPushLoss<T> pass(points, discs, map, {labels, valid}, settings, need_gradient, threads.count);
  loss(0) = static_cast<T>(pass.run());
  if (need_gradient) pass.write_gradient(grad);
}

template void pull_push(Points, Radii, View<const float, 4>, View<const std::int32_t, 3>, View<const bool, 3>, Taps,
                        double, double, double, View<float, 1>, View<float, 4>, Threads);
template void pull_push(Points, Radii, View<const double, 4>, View<const std::int32_t, 3>, View<const bool, 3>, Taps,
                        double, double, double, View<double, 1>, View<double, 4>, Threads);

}  // namespace crowdseg
