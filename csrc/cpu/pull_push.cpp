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
  std::int64_t image, row, column;  // its pixel
  std::int32_t label;
  bool used;                // on an instance, on a valid pixel, and with a pixel to pull
  std::int64_t pulls = 0, pushes = 0;  // pixels of its circle
  double pull = 0, push = 0;           // weight of one
};

std::int64_t nearest_pixel(double position, std::int64_t pixels) {
  return static_cast<std::int64_t>(clamped(std::nearbyint(position), 0.0, static_cast<double>(pixels - 1)));
}

// Terms whose pixels are still to be counted.
std::vector<Term> terms_of(const Points& points, const Maps& maps) {
  std::vector<Term> terms;
  terms.reserve(points.xy.size[0]);
  for (std::int64_t image = 0; image < maps.labels.size[0]; ++image) {
    for (std::int64_t i = points.offsets(image); i < points.offsets(image + 1); ++i) {
      const std::int64_t row = nearest_pixel(points.xy(i, 1), maps.labels.size[1]);
      const std::int64_t column = nearest_pixel(points.xy(i, 0), maps.labels.size[2]);
      const std::int32_t label = maps.labels(image, row, column);
      terms.push_back({image, row, column, label, label > 0 && maps.valid(image, row, column)});
    }
  }
  return terms;
}

// Each image's loss is the mean over its used points, the batch's the mean over images.
void set_weights(std::vector<Term>& terms, std::int64_t images) {
  std::vector<std::int64_t> used(images);
  for (Term& term : terms) {
    term.used = term.pulls > 0;
    used[term.image] += term.used;
  }
  for (Term& term : terms) {
    if (!term.used) continue;
    const double share = 1.0 / (used[term.image] * images);
    term.pull = share / term.pulls;
    term.push = term.pushes > 0 ? share / term.pushes : 0;
  }
}

template <class T>
class PullPushLoss {
 public:
  PullPushLoss(const Points& points, const Discs& discs, const FeatureMap<T>& map, const Maps& maps,
               const PullPush<T>& settings, bool need_gradient, int threads)
      : discs_(discs), map_(map), maps_(maps), settings_(settings), threads_(threads),
        terms_(terms_of(points, maps)), circles_(points, discs, candidates(), maps.labels.size[1], maps.labels.size[2]),
        kernels_(tile_kernels<T>(map.depth)), centers_(terms_.size() * map.depth),
        center_gradients_(need_gradient ? circles_.circle.size() * map.depth : 0),
        gradient_(need_gradient ? circles_.images * map.image_size() : 0),
        workspaces_(workspaces(map, need_gradient, threads)), need_gradient_(need_gradient) {
    center_gradients_.clear();
    gradient_.clear();
    count_pixels();
    read_centers();
  }

  double run() {
    std::vector<double> losses(circles_.images * circles_.rows);
    const std::int64_t apart = rows_apart();
    for (std::int64_t turn = 0; turn < apart; ++turn) {
      const std::int64_t rows = (circles_.rows - turn + apart - 1) / apart;
      parallel_for(circles_.images * std::max<std::int64_t>(rows, 0), threads_, 1, [&](std::int64_t job, int thread) {
        const std::int64_t row = job / rows * circles_.rows + turn + job % rows * apart;
        losses[row] = row_of_tiles(row, workspaces_[thread]);
      });
    }
    if (need_gradient_) spread_centers();
    double loss = 0;
    for (const double part : losses) loss += part;
    return loss;
  }

  void write_gradient(const View<T, 4>& out) const {
    parallel_for(out.size[0] * out.size[2], threads_, 128, [&](std::int64_t line, int) {
      const std::int64_t image = line / out.size[2], y = line % out.size[2];
      kernels_.separate(gradient_ + line * out.size[3] * map_.depth, map_.depth, static_cast<int>(out.size[1]),
                        out.size[3], out.stride[1], &out(image, 0, y, 0));
    });
  }

 private:
  std::vector<char> candidates() const {
    std::vector<char> keep;
    for (const Term& term : terms_) keep.push_back(term.used);
    return keep;
  }

  void count_pixels() {
    std::vector<Counts> counts(circles_.circle.size());  // per entry
    parallel_for(circles_.tiles(), threads_, 64, [&](std::int64_t index, int thread) {
      if (circles_.empty(index)) return;
      const Tile<T> tile = tile_with_labels(index, workspaces_[thread]);
      for (std::int64_t entry = circles_.start[index]; entry < circles_.start[index + 1]; ++entry) {
        const std::int64_t i = circles_.circle[entry];
        counts[entry] = kernels_.count(tile, discs_.patch(i), workspaces_[thread].labels, terms_[i].label);
      }
    });
    for (std::size_t entry = 0; entry < counts.size(); ++entry) {
      terms_[circles_.circle[entry]].pulls += counts[entry].pull;
      terms_[circles_.circle[entry]].pushes += counts[entry].push;
    }
    set_weights(terms_, circles_.images);
  }

  void read_centers() {
    parallel_for(terms_.size(), threads_, 1024, [&](std::int64_t i, int) {
      const Term& term = terms_[i];
      if (term.used) map_.read(term.image, term.column, term.row, centers_ + i * map_.depth);
    });
  }

  Tile<T> tile_with_labels(std::int64_t index, Workspace<T>& workspace) const {
    const Tile<T> tile = map_.tile(circles_.row(index), circles_.column(index), workspace.scratch);
    const std::int64_t image = circles_.image(index);
    kernels_.labels(tile, &maps_.labels(image, 0, 0), &maps_.valid(image, 0, 0), maps_.labels.size[2],
                    workspace.labels);
    return tile;
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
    const Tile<T> tile = tile_with_labels(index, workspace);
    kernels_.features(tile, map_.image(image), workspace.features);
    T* gradient = need_gradient_ ? static_cast<T*>(workspace.gradient) : nullptr;
    if (gradient) std::fill_n(gradient, tile.height * kTile * map_.depth, T{0});
    double loss = 0;
    for (std::int64_t entry = circles_.start[index]; entry < circles_.start[index + 1]; ++entry) {
      const std::int64_t i = circles_.circle[entry];
      if (entry + 2 < circles_.start[index + 1]) {
        discs_.prefetch(circles_.circle[entry + 2]);
        __builtin_prefetch(centers_ + circles_.circle[entry + 2] * map_.depth);
      }
      if (!terms_[i].used) continue;
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

  // The points' own part of the gradient, through the centre features.
  void spread_centers() {
    std::vector<T> sums(terms_.size() * map_.depth);
    for (std::size_t entry = 0; entry < circles_.circle.size(); ++entry) {
      T* sum = &sums[circles_.circle[entry] * map_.depth];
      for (int d = 0; d < map_.depth; ++d) sum[d] += center_gradients_[entry * map_.depth + d];
    }
    for (std::size_t i = 0; i < terms_.size(); ++i) {
      const Term& term = terms_[i];
      if (!term.used) continue;
      map_.spread(&sums[i * map_.depth], term.column, term.row, gradient_ + term.image * map_.image_size());
    }
  }

  const Discs& discs_;
  const FeatureMap<T>& map_;
  const Maps maps_;
  const PullPush<T> settings_;
  const int threads_;
  std::vector<Term> terms_;
  const TileCircles circles_;
  const TileKernels<T> kernels_;
  Buffer<T> centers_;           // (N, depth)
  Buffer<T> center_gradients_;  // (entries of circles_, depth)
  Buffer<T> gradient_;          // (B, h, w, depth)
  std::vector<Workspace<T>> workspaces_;
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
