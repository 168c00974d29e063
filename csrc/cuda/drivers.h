// What each CUDA driver takes: as the CPU's (cpu/drivers.h), with a stream in place of threads and any strides. Drivers
// only put work on the stream; they wait for nothing and copy nothing back. They throw std::runtime_error where the
// device refuses.
#pragma once

#include <cstddef>
#include <functional>

#include "math/view.h"

namespace crowdseg {

struct Stream {
  void* handle;
  int device;
  std::function<void*(std::size_t)> allocate;  // temporary memory, in bytes; any type may begin there

  template <class T>
  T* take(std::int64_t count) const {
    return static_cast<T*>(allocate(count * sizeof(T)));
  }
};

using Labels = View<std::int32_t, 3>;  // (B, H, W)
using Taps = View<const double, 1>;    // (kernel_size,)
using Radii = View<const double, 1>;   // (N,) pixels

// Why the kernels cannot run here, in a sentence; empty where they can.
const char* problem();

// out (N,): distance to the nearest other point of the image, clamped.
void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Stream stream);

// labels: 1 + index within its image of the nearest point whose circle holds the pixel, 0 where there is none.
void exclusion(Points points, Radii radii, Labels labels, Stream stream);

// out (N, D): F at the points, from the embedding (B, D, h, w) of images of height x width.
template <class T>
void center_features(Points points, View<const T, 4> embedding, std::int64_t height, std::int64_t width, Taps taps,
                     View<T, 2> out, Stream stream);

// The transpose: grad (N, D) to out (B, D, h, w), which it fills.
template <class T>
void center_features_backward(Points points, View<const T, 2> grad, std::int64_t height, std::int64_t width, Taps taps,
                              View<T, 4> out, Stream stream);

// loss (1,) and its gradient, none where grad has no images. Pulled pixels cost beyond `near`, pushed ones within
// `far`; differences of features shorter than `rounding` have no direction.
template <class T>
void pull_push(Points points, Radii radii, View<const T, 4> embedding, View<const std::int32_t, 3> labels,
               View<const bool, 3> valid, Taps taps, double near, double far, double rounding, View<T, 1> loss,
               View<T, 4> grad, Stream stream);

// labels: 1 + index within its image of the point of least energy, 0 where none is below the threshold. Points with
// claim_circle (N,) are excused from it.
template <class T>
void energy(Points points, Radii radii, View<const T, 4> embedding, View<const bool, 1> claim_circle, Taps taps,
            double geometry_weight, double threshold, Labels labels, Stream stream);

// targets: 1 at the cell matched to each point, else 0; owners: 1 + index within its image of the cell's nearest point
// closer than max_radius, else 0.
template <class T>
void p2r_targets(Points points, View<const T, 3> logits, std::int64_t stride, double min_radius, double max_radius,
                 double point_cost, double class_cost, View<T, 3> targets, Labels owners, Stream stream);

}  // namespace crowdseg
