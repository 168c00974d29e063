// Chooses among the copies of tile_kernels.cpp.
#include <cstdlib>
#include <string>

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

// CROWDSEG_ISA=base does without AVX2, to see what other processors see.
bool detect_avx2() {
#ifdef CROWDSEG_AVX2
  const char* wanted = std::getenv("CROWDSEG_ISA");
  if (wanted && std::string(wanted) == "base") return false;
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool has_avx2() {
  static const bool found = detect_avx2();
  return found;
}

}  // namespace

const char* instruction_set() { return has_avx2() ? "avx2" : "base"; }

template <class T>
TileKernels<T> tile_kernels(int depth) {
#ifdef CROWDSEG_AVX2
  if (has_avx2()) return avx2::tile_kernels<T>(depth);
#endif
  return base::tile_kernels<T>(depth);
}

template TileKernels<float> tile_kernels<float>(int);
template TileKernels<double> tile_kernels<double>(int);

}  // namespace crowdseg
