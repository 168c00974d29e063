// One name for the choice between numbers and between SIMD lanes of numbers.
#pragma once

#include "math/host_device.h"

namespace crowdseg {

// Numbers; csrc/cpu/simd/vec.h has the lanes.
CROWDSEG_HD float select(bool choose, float a, float b) { return choose ? a : b; }
CROWDSEG_HD double select(bool choose, double a, double b) { return choose ? a : b; }

}  // namespace crowdseg
