#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "options.hpp"

namespace streamtag {

/// The configuration of a front end. streamtag/audio/feature_config.py explains each field.
struct Spec {
  Kind kind = Kind::kLogMel;
  std::int64_t sample_rate = 16000;
  std::int64_t n_fft = 512;
  std::int64_t win_length = 512;
  std::int64_t hop = 160;
  Window window = Window::kHann;
  Spectrum spectrum = Spectrum::kPower;
  std::int64_t n_mels = 96;
  double f_min = 0.0;
  double f_max = 8000.0;
  MelScale mel_scale = MelScale::kSlaney;
  MelNorm mel_norm = MelNorm::kSlaney;
  Order order = Order::kMelLog;
  Weighting weighting = Weighting::kNone;
  Log log = Log::kLn;
  double log_multiplier = 10.0;
  double log_floor = 1e-10;
  double log_offset = 0.0;
  double log_gain = 10000.0;
  double gain = 1.0;
  double preemphasis = 0.0;
  std::optional<double> top_db;
  Framing framing = Framing::kCausal;
  Padding padding = Padding::kReflect;
  Tail tail = Tail::kFloor;

  auto operator<=>(const Spec&) const = default;

  std::int64_t bins() const { return n_fft / 2 + 1; }
  std::int64_t width() const { return kind == Kind::kRaw ? 1 : n_mels; }
  bool emphasised() const { return kind == Kind::kLogMel && preemphasis != 0.0; }
};

/// Throws std::invalid_argument, naming the field, unless `spec` can be computed.
void check(const Spec& spec);

}  // namespace streamtag
