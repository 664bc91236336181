#pragma once

// Which frames single precision is too coarse for; kernel.hpp says when (`Tables::faint`). Only
// where mels are logged: where bins are, nearly every frame has one in a gap.
//
// Whether a frame is made alone or among others, the decision rests on the same bits.

#include "kernel.hpp"
#include "lanes.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

/// The power of all bins is added up in so many sums side by side, which take vectors of bins in
/// turn.
constexpr int kParts = 4;

/// The power of numbers that may be magnitudes.
template <class V>
STREAMTAG_INLINE V power_of(const Tables& tables, V v) {
  return tables.spectrum == Spectrum::kMagnitude ? v * v : v;
}

/// What a mel must exceed to count, in a frame whose largest is `largest`.
template <class V>
STREAMTAG_INLINE V least_of(const Tables& tables, V largest) {
  const V audible = (tables.audible - V{}) * largest;
  return max(audible, tables.least - V{});
}

template <class V>
STREAMTAG_INLINE auto is_faint(const Tables& tables, V mel, V bound, V least) {
  return (power_of(tables, mel + tables.allowed) < bound) & (mel > least);
}

template <int L>
STREAMTAG_INLINE bool any(typename Lanes<L>::Ints found) {
  const auto join = [](auto a, auto b) __attribute__((always_inline)) { return a | b; };
  return folded<L>(found, join)[0] != 0;
}

/// Whether one of `count` mels, a multiple of L, is faint.
template <int L>
bool has_faint(const Tables& tables, const float* bins, int count, const float* mels) {
  Vec<L> part[kParts] = {};
  for (int i = 0; i < tables.bins; i += kParts * L)
    unroll<kParts>([&](auto s) __attribute__((always_inline)) {
      if (i + s * L < tables.bins) part[s] = part[s] + power_of(tables, load<L>(bins + i + s * L));
    });
  Vec<L> level = part[0];
  for (int s = 1; s < kParts; ++s) level = level + part[s];
  Vec<L> top{};
  for (int m = 0; m < count; m += L) top = max(top, load<L>(mels + m));
  const auto sum = [](Vec<L> a, Vec<L> b) __attribute__((always_inline)) { return a + b; };
  const auto larger = [](Vec<L> a, Vec<L> b) __attribute__((always_inline)) { return max(a, b); };
  level = folded<L>(level, sum);
  const Vec<L> least = least_of(tables, folded<L>(top, larger));
  typename Lanes<L>::Ints found{};
  for (int m = 0; m < count; m += L)
    found |= is_faint(tables, load<L>(mels + m), load<L>(tables.faint + m) * level, least);
  return any<L>(found);
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
