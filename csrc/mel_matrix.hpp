#pragma once

// The mels of one frame from its bins.

#include <type_traits>

#include "fft.hpp"
#include "kernel.hpp"
#include "lanes.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

/// The mel matrix times the bins, G mels by G bins at a time.
template <int G, class Real>
void apply_mel_matrix(const Transform<Real>& tables, const Real* bins, Real* mels) {
  const Real* weights = tables.weights;
  const std::int32_t* firsts = tables.firsts;
  for (int group = 0; group < tables.groups; ++group, firsts += G) {
    Vec<Real, G> sum[G];
    unroll<G>([&](auto m) __attribute__((always_inline)) {
      sum[m] = load<G>(weights + m * G) * load<G>(bins + firsts[m]);
    });
    weights += G * G;
    for (int v = 1; v < tables.spans[group]; ++v, weights += G * G)
      unroll<G>([&](auto m) __attribute__((always_inline)) {
        sum[m] = fma(load<G>(weights + m * G), load<G>(bins + firsts[m] + v * G), sum[m]);
      });
    store(mels + group * G, horizontal_sums(sum));
  }
}

/// Replaces powers by magnitudes if the tables ask for magnitudes.
template <class Real>
STREAMTAG_INLINE void to_magnitudes(const Transform<Real>& tables, int count, Real* bins) {
  if (tables.spectrum != Spectrum::kMagnitude) return;
  for (int i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<Real, float>)
      bins[i] = __builtin_sqrtf(bins[i]);
    else
      bins[i] = __builtin_sqrt(bins[i]);
  }
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
