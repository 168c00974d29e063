// Loops over threads. Each index is one thread's alone, so results do not depend on their number.
#pragma once

#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace crowdseg {

// `wanted` threads, but one in a process forked from ours: OpenMP's pool does not survive a fork, and waiting for it would
// hang for ever.
int usable_threads(int wanted);

// work(i, thread) for every i below `count`, thread below usable_threads(threads). `grain` indices at a time; no more than that
// are not worth waking a thread for, which takes some 50 microseconds.
template <class Work>
void parallel_for(std::int64_t count, int threads, [[maybe_unused]] std::int64_t grain, const Work& work) {
  threads = usable_threads(threads);
#ifdef _OPENMP
  if (threads > 1 && count > grain) {
#pragma omp parallel for num_threads(threads) schedule(dynamic, grain)
    for (std::int64_t i = 0; i < count; ++i) work(i, omp_get_thread_num());
    return;
  }
#endif
  for (std::int64_t i = 0; i < count; ++i) work(i, 0);
}

}  // namespace crowdseg
