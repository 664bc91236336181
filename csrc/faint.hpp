#pragma once

// Finds the frames for which single precision is too coarse.
//
// A float FFT adds rounding errors like white noise. Let E be the sum of the powers of all bins.
// Each amplitude is off by about
//
//     r = 2^-24 sqrt(2 E / N).
//
// A mel with weights w is P = sum(w |X|^2) of powers or sum(w |X|) of magnitudes. Relative to
// itself it is off by at most
//
//     2 r sqrt(max(w) / P)       for powers,
//     r sqrt(sum(w^2)) / P       for magnitudes.
//
// A frame is computed again in double precision (precise.hpp) if this exceeds t = 2e-5 for a mel
// that counts. Solved for the mel, a mel is faint if
//
//     P   + allowed < E 4 max(w) q       for powers,
//     (P + allowed)^2 < E sum(w^2) q     for magnitudes,      q = 2^-48 (2 / N) / t^2.
//
// Here `Tables::faint` is the factor of E. `allowed` is what the logarithm adds to the mel
// (log_offset, or 1 / log_gain), which makes its relative error smaller. A mel counts if it exceeds
// `Tables::least`, below which the logarithm has its floor, and `Tables::audible` times the largest
// mel of its frame (80 dB below it). Single values reach ten times the tolerance t, most stay below
// half of it.
//
// Only frames whose mels are logged are checked. If bins are logged, nearly every frame has a bin
// in a gap of its spectrum. A frame that is computed alone and one that is computed with others are
// judged by the same bits.

#include "kernel.hpp"
#include "lanes.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

/// The power of all bins is added up in so many partial sums, which take vectors of bins in turn.
constexpr int kPartialSums = 4;

/// Powers of numbers that may be magnitudes.
template <class V>
STREAMTAG_INLINE V power_of(const Tables& tables, V v) {
  return tables.spectrum == Spectrum::kMagnitude ? v * v : v;
}

/// A mel must exceed this to count, in a frame whose largest mel is `largest`.
template <class V>
STREAMTAG_INLINE V least_of(const Tables& tables, V largest) {
  const V audible = (tables.audible - V{}) * largest;
  return max(audible, tables.least - V{});
}

/// Which mels are faint. `bound` is `Tables::faint` times the power of all bins.
template <class V>
STREAMTAG_INLINE auto is_faint(const Tables& tables, V mel, V bound, V least) {
  return (power_of(tables, mel + tables.allowed) < bound) & (mel > least);
}

template <int L>
STREAMTAG_INLINE bool any(Vec<std::int32_t, L> found) {
  const auto join = [](auto a, auto b) __attribute__((always_inline)) { return a | b; };
  return reduce<L>(found, join)[0] != 0;
}

/// Whether one of `count` mels is faint. `count` is a multiple of L.
template <int L>
bool has_faint(const Tables& tables, const float* bins, int count, const float* mels) {
  Vec<float, L> part[kPartialSums] = {};
  for (int i = 0; i < tables.bins; i += kPartialSums * L)
    unroll<kPartialSums>([&](auto s) __attribute__((always_inline)) {
      if (i + s * L < tables.bins) part[s] = part[s] + power_of(tables, load<L>(bins + i + s * L));
    });
  Vec<float, L> level = part[0];
  for (int s = 1; s < kPartialSums; ++s) level = level + part[s];
  Vec<float, L> top{};
  for (int m = 0; m < count; m += L) top = max(top, load<L>(mels + m));
  const auto sum = [](Vec<float, L> a, Vec<float, L> b)
                       __attribute__((always_inline)) { return a + b; };
  const auto larger = [](Vec<float, L> a, Vec<float, L> b)
                          __attribute__((always_inline)) { return max(a, b); };
  level = reduce<L>(level, sum);
  const Vec<float, L> least = least_of(tables, reduce<L>(top, larger));
  Vec<std::int32_t, L> found{};
  for (int m = 0; m < count; m += L)
    found |= is_faint(tables, load<L>(mels + m), load<L>(tables.faint + m) * level, least);
  return any<L>(found);
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
