#pragma once

#include <cstdint>

#include "options.hpp"

// Only plain data here. kernel.cpp is compiled for instruction sets that this CPU may not have; an
// inline function that it shared with other files could reach them through the linker.

namespace streamtag {

constexpr int kMaxStages = 6;

/// From samples to mels, for one kind of number; fft.hpp says what N, R, M and L are.
template <class Real>
struct Transform {
  std::int32_t lanes;  // L
  std::int32_t n_fft;  // N
  std::int32_t rows;   // M
  const Real* window;  // (M/L, R, L)

  const Real* twist;  // (M/L, L-1, 2, L) exp(-2 pi i n p / N), p from 1
  std::int32_t stages;
  std::int32_t radix[kMaxStages];  // product M, each 4 or 8
  const Real* turns;  // per stage but the last: (s, radix-1, 2) exp(-2 pi i j q / (s radix))
  const std::int32_t* order;  // (M / last radix,) first output of each block of the last stage
  const Real* untangle;       // (2, M) exp(-pi i j / M)

  Spectrum spectrum;
  std::int32_t bins;       // N/2 + 1 rounded up to a multiple of L
  std::int32_t mel_lanes;  // G, 8 or L if that is less: triangles are narrow
  std::int32_t n_mels;
  std::int32_t groups;         // of G mels; together a multiple of L
  const std::int32_t* spans;   // (groups,) vectors of G bins under each mel of the group
  const std::int32_t* firsts;  // (groups, G) first bin
  const Real* weights;         // (groups, spans, G mels, G bins)
};

/// What a kernel needs to know about a front end.
struct Tables : Transform<float> {
  Transform<double> precise;
  // A mel takes its share of the rounding of the loud bins elsewhere in its frame. It is faint, and
  // its frame is made once more in double precision, if `allowed` and itself (squared, where it is
  // made of magnitudes) lie below `faint` times the power of all bins, although it exceeds `least`
  // and `audible` times the largest mel.
  const float* faint;  // (groups * G,)
  float least, audible, allowed;

  Order order_of_log;
  const float* weighting;  // (bins,) dB, or null
  Log log;
  float floor, offset, scale, log_gain;  // scale: value per natural logarithm
  float top;                             // dB below the peak; infinite: no clipping
};

/// Aligned to 64 bytes, as much as `Plan` says.
struct Memory {
  float* single;
  double* twice;
};

/// The code of one instruction set.
struct Kernel {
  const char* isa;
  std::int32_t lanes;  // the most it has
  /// Copies samples clipped to +-limit, NaN and infinities as 0; returns how many those were.
  std::int32_t (*clean)(const float* samples, std::int32_t count, float limit, float* out);
  /// Frame of the n_fft samples at `samples`. `peak` is the running maximum that `top` refers to.
  void (*frame)(const Tables& tables, const float* samples, Memory memory, float* peak, float* out);
  /// L frames at once, bit for bit what `frame` would make of each; for tables that allow it.
  void (*batch)(const Tables& tables, const float* const* samples, Memory memory,
                float* const* out);
};

}  // namespace streamtag
