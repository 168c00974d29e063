#include "cpu/parallel.h"

#include <pthread.h>

namespace crowdseg {

namespace {

bool forked = false;
const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

int usable_threads(int wanted) { return forked || registered != 0 || wanted < 1 ? 1 : wanted; }

}  // namespace crowdseg
