// The smoothed feature map F along one axis: bilinear upsampling and Gaussian blur in one short weighted sum of cells
// (xmask section 3).
#pragma once

#include "math/host_device.h"

namespace crowdseg {

// One axis of the image and of the embedding, and the blur between them.
struct Axis {
  std::int64_t pixels, cells;
  const double* taps;  // (kernel_size,) the blur's weights, sum 1
  int kernel_size;     // odd
  int length;          // band_length: cells in a weighted sum
  double scale;        // cells per pixel
};

// The blur reaches kernel_size pixels; bilinear reading and upsampling touch a cell more at either end.
CROWDSEG_HD int band_length(std::int64_t pixels, std::int64_t cells, int kernel_size) {
  return static_cast<int>(smaller(cells, kernel_size * cells / pixels + 3));
}

CROWDSEG_HD Axis make_axis(std::int64_t pixels, std::int64_t cells, const double* taps, std::int64_t kernel_size) {
  const int size = static_cast<int>(kernel_size);
  return {pixels, cells, taps, size, band_length(pixels, cells, size), static_cast<double>(cells) / pixels};
}

// F at `position` as the sum of weights[k] times cell first + k, k < axis.length. Returns first.
//
// The blur pads with zeros after upsampling; upsampling and the bilinear reading between pixels clamp to the edge.
CROWDSEG_HD std::int64_t band(const Axis& axis, double position, double* weights) {
  position = clamped(position, 0.0, static_cast<double>(axis.pixels - 1));
  const double base = std::floor(position), fraction = position - base;
  const std::int64_t reach = axis.kernel_size / 2, last_cell = axis.cells - 1;
  std::int64_t first = -1;
  for (int k = 0; k < axis.length; ++k) weights[k] = 0;
  // Reading between two pixels mixes two blurs that are one pixel apart.
  for (int tap = 0; tap <= axis.kernel_size; ++tap) {
    const std::int64_t pixel = static_cast<std::int64_t>(base) - reach + tap;
    const double weight = (tap < axis.kernel_size ? (1 - fraction) * axis.taps[tap] : 0) +
                          (tap > 0 ? fraction * axis.taps[tap - 1] : 0);
    const double source = clamped((pixel + 0.5) * axis.scale - 0.5, 0.0, static_cast<double>(last_cell));
    const std::int64_t low = static_cast<std::int64_t>(source), high = smaller(low + 1, last_cell);
    if (first < 0) first = smaller(low, axis.cells - axis.length);
    if (pixel < 0 || pixel >= axis.pixels) continue;
    weights[low - first] += weight * (1 - (source - low));
    weights[high - first] += weight * (source - low);
  }
  return first;
}

}  // namespace crowdseg
