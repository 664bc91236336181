#pragma once

#include "kernel.hpp"

namespace streamtag::STREAMTAG_KERNEL {

/// The mels of one frame in double precision, rounded at the end. `memory` is 64-byte aligned.
void precise_mels(const Transform<double>& tables, const float* samples, double* memory,
                  float* mels);

}  // namespace streamtag::STREAMTAG_KERNEL
