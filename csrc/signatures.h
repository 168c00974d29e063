// What each driver takes, on the CPU and on CUDA devices alike: cpu/drivers.h and cuda/drivers.h say what `Where` is and
// include this. Points are grouped by image; values per point come and go in that order. T is float or double.
#pragma once

#include "math/view.h"

namespace crowdseg {

using Labels = View<std::int32_t, 3>;  // (B, H, W)
using Taps = View<const double, 1>;    // (kernel_size,)
using Radii = View<const double, 1>;   // (N,) pixels

// out (N,): distance to the nearest other point of the image, clamped.
void radii(Points points, double min_radius, double max_radius, View<double, 1> out, Where where);

// labels: 1 + index within its image of the nearest point whose circle holds the pixel, 0 where there is none.
void exclusion(Points points, Radii radii, Labels labels, Where where);

// out (N, D): F at the points, from the embedding (B, D, h, w) of images of height x width.
template <class T>
void center_features(Points points, View<const T, 4> embedding, std::int64_t height, std::int64_t width, Taps taps,
                     View<T, 2> out, Where where);

// The transpose: grad (N, D) to out (B, D, h, w), which it fills.
template <class T>
void center_features_backward(Points points, View<const T, 2> grad, std::int64_t height, std::int64_t width, Taps taps,
                              View<T, 4> out, Where where);

// loss (1,) and its gradient, none where grad has no images. Pulled pixels cost beyond `near`, pushed ones within `far`;
// differences of features shorter than `rounding` have no direction.
template <class T>
void pull_push(Points points, Radii radii, View<const T, 4> embedding, View<const std::int32_t, 3> labels,
               View<const bool, 3> valid, Taps taps, double near, double far, double rounding, View<T, 1> loss,
               View<T, 4> grad, Where where);

// labels: 1 + index within its image of the point of least energy, 0 where none is below the threshold. Points with
// claim_circle (N,) are excused from it.
template <class T>
void energy(Points points, Radii radii, View<const T, 4> embedding, View<const bool, 1> claim_circle, Taps taps,
            double geometry_weight, double threshold, Labels labels, Where where);

// targets: 1 at the cell matched to each point, else 0; owners: 1 + index within its image of the cell's nearest point
// closer than max_radius, else 0.
template <class T>
void p2r_targets(Points points, View<const T, 3> logits, std::int64_t stride, double min_radius, double max_radius,
                 double point_cost, double class_cost, View<T, 3> targets, Labels owners, Where where);

}  // namespace crowdseg
