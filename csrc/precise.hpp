#pragma once

// The linear part of one frame in double precision, for frames that single precision is too coarse
// for (faint.hpp).

#include "fft.hpp"
#include "kernel.hpp"
#include "lanes.hpp"
#include "mel_matrix.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

template <int L>
__attribute__((noinline)) void precise_mels_of(const Transform<double>& tables,
                                               const float* samples, double* memory, float* mels) {
  const Scratch<double> scratch(tables, memory);
  power_spectrum<L>(tables, samples, scratch);
  to_magnitudes(tables, tables.bins, scratch.power);
  apply_mel_matrix<L>(tables, scratch.power, scratch.mels);
  for (int m = 0; m < tables.n_mels; ++m) mels[m] = static_cast<float>(scratch.mels[m]);
}

/// The mels of one frame in double precision, rounded at the end. `memory` is 64-byte aligned.
inline void precise_mels(const Transform<double>& tables, const float* samples, double* memory,
                         float* mels) {
#if defined(__AVX512F__)
  if (tables.lanes == 8) return precise_mels_of<8>(tables, samples, memory, mels);
#endif
  precise_mels_of<4>(tables, samples, memory, mels);
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
