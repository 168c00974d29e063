// Compiled once per instruction set: CROWDSEG_ISA names it.
#include "cpu/tile_kernels.h"

#include "cpu/simd/features.h"
#include "cpu/simd/pixels.h"
#include "cpu/simd/terms.h"

namespace crowdseg::CROWDSEG_ISA {

namespace {

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
