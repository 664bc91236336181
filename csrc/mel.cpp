#include "mel.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace streamtag {
namespace {

// Slaney, Auditory Toolbox 1998: linear below 1 kHz, 27 steps per factor of 6.4 above.
constexpr double kHzPerMel = 200.0 / 3.0;
constexpr double kBreakHz = 1000.0;
constexpr double kBreakMel = kBreakHz / kHzPerMel;
const double kLogStep = std::log(6.4) / 27.0;

double hz_to_mel(double hz, MelScale scale) {
  if (scale == MelScale::kHtk || scale == MelScale::kKaldi)
    return 2595.0 * std::log10(1.0 + hz / 700.0);  // O'Shaughnessy 1987
  if (hz < kBreakHz) return hz / kHzPerMel;
  return kBreakMel + std::log(hz / kBreakHz) / kLogStep;
}

double mel_to_hz(double mel, MelScale scale) {
  if (scale == MelScale::kHtk) return 700.0 * (std::pow(10.0, mel / 2595.0) - 1.0);
  if (mel < kBreakMel) return mel * kHzPerMel;
  return kBreakHz * std::exp(kLogStep * (mel - kBreakMel));
}

/// The axis on which triangles have straight sides: mel for Kaldi, else Hz.
double axis_of_mel(double mel, MelScale scale) {
  return scale == MelScale::kKaldi ? mel : mel_to_hz(mel, scale);
}

double axis_of_hz(double hz, MelScale scale) {
  return scale == MelScale::kKaldi ? hz_to_mel(hz, scale) : hz;
}

double bin_hz(const Spec& spec, std::int64_t bin) {
  return static_cast<double>(bin) * static_cast<double>(spec.sample_rate) /
         static_cast<double>(spec.n_fft);
}

/// Weights of the triangle that rises from `left` to `centre` and falls to `right` (on their axis).
Band triangle(const Spec& spec, double left, double centre, double right) {
  const double scale = spec.mel_norm == MelNorm::kSlaney ? 2.0 / (right - left) : 1.0;
  Band band;
  for (std::int64_t bin = 0; bin < spec.bins(); ++bin) {
    const double x = axis_of_hz(bin_hz(spec, bin), spec.mel_scale);
    const double weight =
        scale * std::min((x - left) / (centre - left), (right - x) / (right - centre));
    if (!(weight > 0.0)) continue;
    if (band.weights.empty()) band.first = bin;
    band.weights.push_back(weight);
  }
  return band;
}

/// Feet and centres of the triangles on their axis.
std::vector<double> edges(const Spec& spec) {
  const double low = hz_to_mel(spec.f_min, spec.mel_scale);
  const double high = hz_to_mel(spec.f_max, spec.mel_scale);
  const double step = (high - low) / static_cast<double>(spec.n_mels + 1);
  // Essentia adds up single-precision steps. Near the top this moves an edge by 0.01 Hz, and
  // changes the weight of a bin that is barely inside a triangle by a percent.
  const auto single_step = static_cast<float>(step);
  auto sum = static_cast<float>(low);
  std::vector<double> points;
  for (std::int64_t i = 0; i < spec.n_mels + 2; ++i, sum += single_step) {
    const bool single = spec.mel_scale == MelScale::kEssentia;
    points.push_back(
        axis_of_mel(single ? sum : low + static_cast<double>(i) * step, spec.mel_scale));
  }
  return points;
}

}  // namespace

std::vector<Band> mel_bands(const Spec& spec) {
  const std::vector<double> points = edges(spec);
  std::vector<Band> bands;
  for (std::size_t m = 0; m + 2 < points.size(); ++m)
    bands.push_back(triangle(spec, points[m], points[m + 1], points[m + 2]));
  return bands;
}

std::vector<double> a_weighting(const Spec& spec) {
  // Pole frequencies in Hz and the +2 dB that make the curve 0 dB at 1 kHz.
  constexpr double kPoles[] = {12194.217, 20.598997, 107.65265, 737.86223};
  constexpr double kFloor = -80.0;
  std::vector<double> decibels;
  for (std::int64_t bin = 0; bin < spec.bins(); ++bin) {
    const double square = bin_hz(spec, bin) * bin_hz(spec, bin);
    const auto pole = [&](int i) { return std::log10(square + kPoles[i] * kPoles[i]); };
    const double db = 2.0 + 20.0 * (2.0 * std::log10(kPoles[0]) + 2.0 * std::log10(square) -
                                    pole(0) - pole(1) - 0.5 * pole(2) - 0.5 * pole(3));
    decibels.push_back(std::max(kFloor, db));
  }
  return decibels;
}

std::vector<double> analysis_window(const Spec& spec) {
  const std::int64_t period = spec.win_length - (spec.window == Window::kHannSymmetric ? 1 : 0);
  const std::int64_t first = (spec.n_fft - spec.win_length) / 2;
  std::vector<double> window(static_cast<std::size_t>(spec.n_fft));
  for (std::int64_t i = 0; i < spec.win_length; ++i) {
    const double phase =
        static_cast<double>(i) / static_cast<double>(std::max<std::int64_t>(1, period));
    const double value = 0.5 - 0.5 * std::cos(2.0 * std::numbers::pi * phase);
    window[static_cast<std::size_t>(first + i)] = spec.win_length == 1 ? 1.0 : value;
  }
  return window;
}

}  // namespace streamtag
