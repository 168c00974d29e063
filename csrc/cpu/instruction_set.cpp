// Chooses among the copies of simd/tile_kernels.cpp.
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
namespace avx512 {
template <class T>
TileKernels<T> tile_kernels(int depth);
}

namespace {

enum Level { kBase, kAvx2, kAvx512 };
constexpr InstructionSet kSets[] = {{"base", 32}, {"avx2", 32}, {"avx512", 64}};

Level best_level() {
#ifdef CROWDSEG_X86
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return kBase;
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") ? kAvx512 : kAvx2;
#else
  return kBase;
#endif
}

// CROWDSEG_ISA names a lesser set, to see what other processors see.
Level choose_level() {
  const char* wanted = std::getenv("CROWDSEG_ISA");
  for (int level = kBase; wanted && level < best_level(); ++level) {
    if (std::string(wanted) == kSets[level].name) return static_cast<Level>(level);
  }
  return best_level();
}

Level level() {
  static const Level chosen = choose_level();
  return chosen;
}

}  // namespace

const InstructionSet& instruction_set() { return kSets[level()]; }

template <class T>
TileKernels<T> tile_kernels(int depth) {
#ifdef CROWDSEG_X86
  if (level() == kAvx512) return avx512::tile_kernels<T>(depth);
  if (level() == kAvx2) return avx2::tile_kernels<T>(depth);
#endif
  return base::tile_kernels<T>(depth);
}

template TileKernels<float> tile_kernels<float>(int);
template TileKernels<double> tile_kernels<double>(int);

}  // namespace crowdseg
