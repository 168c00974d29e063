// Chooses among the copies of tile_kernels.cpp.
#include <cstdlib>
#include <cstring>

#include "cpu/tile_kernels.h"

namespace crowdseg {

namespace base {
template <class T>
TileKernels<T> tile_kernels(int depth);
}
namespace avx2 {
template <class T>
TileKernels<T> tile_kernels(int depth);
}

namespace {

bool has_avx2() {
#ifdef CROWDSEG_AVX2
  const char* limit = std::getenv("CROWDSEG_ISA");
  if (limit && std::strcmp(limit, "base") == 0) return false;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool use_avx2() {
  static const bool use = has_avx2();
  return use;
}

}  // namespace

const char* instruction_set() { return use_avx2() ? "avx2" : "base"; }

template <class T>
TileKernels<T> tile_kernels(int depth) {
#ifdef CROWDSEG_AVX2
  if (use_avx2()) return avx2::tile_kernels<T>(depth);
#endif
  return base::tile_kernels<T>(depth);
}

template TileKernels<float> tile_kernels<float>(int);
template TileKernels<double> tile_kernels<double>(int);

}  // namespace crowdseg
