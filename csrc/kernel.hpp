#pragma once

#include <cstdint>

#include "options.hpp"

// This file holds plain data only. kernel.cpp is compiled for instruction sets that this CPU may
// not have. If it shared an inline function with other files, the linker could give them its
// version.

namespace streamtag {

constexpr int kMaxStages = 6;

/// Tables for the way from samples to mels, in one precision. fft.hpp explains N, R, M and L.
template <class Real>
struct Transform {
  std::int32_t lanes;  // L
  std::int32_t n_fft;  // N
  std::int32_t rows;   // M
  const Real* window;  // (M/L, R, L)

  const Real* first_twiddles;  // (M/L, L-1, 2, L) exp(-2 pi i n p / N), p from 1
  std::int32_t stages;
  std::int32_t radix[kMaxStages];  // product M, each 4 or 8
  // Per stage but the last: (s, radix-1, 2) exp(-2 pi i j q / (s radix))
  const Real* stage_twiddles;
  const std::int32_t* order;    // (M / last radix,) first output of each block of the last stage
  const Real* unpack_twiddles;  // (2, M) exp(-pi i j / M)

  Spectrum spectrum;
  std::int32_t bins;       // N/2 + 1 rounded up to a multiple of L
  std::int32_t mel_lanes;  // G, 8 or L if that is less: triangles are narrow
  std::int32_t n_mels;
  std::int32_t groups;         // of G mels; together a multiple of L
  const std::int32_t* spans;   // (groups,) vectors of G bins under each mel of the group
  const std::int32_t* firsts;  // (groups, G) first bin
  const Real* weights;         // (groups, spans, G mels, G bins)
};

/// Everything that a kernel needs to know about a front end.
struct Tables : Transform<float> {
  Transform<double> precise;
  // faint.hpp explains these.
  const float* faint;  // (groups * G,)
  float least, audible, allowed;

  Order order_of_log;
  const float* weighting;  // (bins,) dB, or null
  Log log;
  float floor, offset, scale, log_gain;  // scale: value per natural logarithm
  float top;                             // dB below the peak; infinite: no clipping
};

/// Working memory, aligned to 64 bytes. `Plan` says how much is needed.
struct Memory {
  float* floats;
  double* doubles;
};

/// What `Kernel::measure` finds out about samples.
struct Measured {
  double sum, squares;
  float peak;  // largest size
};

/// The code of one instruction set.
struct Kernel {
  const char* isa;
  std::int32_t lanes;  // floats in its longest vector
  /// Copies samples clipped to +-limit, with NaN and infinities as 0. Returns the number of those.
  std::int32_t (*clean)(const float* samples, std::int32_t count, float limit, float* out);
  /// Computes the frame of n_fft samples. `peak` is the running maximum that `top` refers to.
  void (*frame)(const Tables& tables, const float* samples, Memory memory, float* peak, float* out);
  /// Computes L frames at once, with the bits that `frame` gives. Only if `Plan::batch` is L.
  void (*batch)(const Tables& tables, const float* const* samples, Memory memory,
                float* const* out);
  Measured (*measure)(const float* samples, std::int32_t count);
  /// `lanes` outputs of filters: samples[i] times taps[i], `count` of each, a multiple of 16.
  void (*filter)(const float* const* samples, const float* const* taps, std::int32_t count,
                 float* out);
  /// out[k] is the sum of weights[i] times rows[i][k] over `terms` rows, in their order. Rows and
  /// `out` are as long as `count` rounded up to 64.
  void (*mix)(const float* const* rows, const float* weights, std::int32_t terms,
              std::int32_t count, float* out);
};

/// `Kernel::mix` makes so many outputs at once.
constexpr std::int32_t kMixed = 64;

}  // namespace streamtag
