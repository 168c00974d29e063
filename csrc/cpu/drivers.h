// The CPU drivers. Maps are contiguous along their rows, gradients altogether; embeddings and logits may have any strides.
#pragma once

namespace crowdseg {

struct Threads {
  int count;
};

using Where = Threads;

}  // namespace crowdseg

#include "signatures.h"
