#include "spec.hpp"

#include <cmath>
#include <sstream>
#include <stdexcept>
#include <string>

namespace streamtag {
namespace {

template <class Number>
void require(bool fine, const char* field, const char* expected, Number got) {
  if (fine) return;
  std::ostringstream text;
  text << field << ": expected " << expected << ", got " << got;
  throw std::invalid_argument(text.str());
}

void check_sizes(const Spec& spec) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const std::int64_t n = spec.n_fft;
  require(n >= 32 && n <= 16384 && (n & (n - 1)) == 0, "n_fft", "a power of two, 32 to 16384", n);
  require(spec.win_length >= 1 && spec.win_length <= n, "win_length", "[1, n_fft]",
          spec.win_length);
  require(spec.hop >= 1 && spec.hop < kMost, "hop", "[1, 2^31)", spec.hop);
  require(spec.sample_rate >= 1 && spec.sample_rate < kMost, "sample_rate", "[1, 2^31)",
          spec.sample_rate);
  require(spec.n_mels >= 1 && spec.n_mels <= 4096, "n_mels", "[1, 4096]", spec.n_mels);
}

}  // namespace

void check(const Spec& spec) {
  check_sizes(spec);
  require(spec.f_min >= 0.0, "f_min", "at least 0", spec.f_min);
  require(spec.f_max > spec.f_min && spec.f_max <= 0.5 * static_cast<double>(spec.sample_rate),
          "f_max", "(f_min, sample_rate / 2]", spec.f_max);
  require(std::isfinite(spec.log_multiplier), "log_multiplier", "a finite number",
          spec.log_multiplier);
  require(spec.log_floor >= 0.0 && spec.log_floor <= 1e30, "log_floor", "[0, 1e30]",
          spec.log_floor);
  require(spec.log_offset >= 0.0 && spec.log_offset <= 1e30, "log_offset", "[0, 1e30]",
          spec.log_offset);
  const double smallest = spec.log_floor + spec.log_offset;
  const bool plain = spec.log == Log::kNone || spec.log == Log::kLn1p;
  require(plain || smallest >= 1e-37, "log_floor + log_offset", "at least 1e-37", smallest);
  require(spec.log_gain > 0.0 && spec.log_gain <= 1e18, "log_gain", "(0, 1e18]", spec.log_gain);
  require(spec.gain >= 1e-9 && spec.gain <= 1e9, "gain", "[1e-9, 1e9]", spec.gain);
  require(spec.preemphasis >= 0.0 && spec.preemphasis <= 1.0, "preemphasis", "[0, 1]",
          spec.preemphasis);
  const bool clipped = spec.top_db.has_value();
  require(!clipped || (*spec.top_db > 0.0 && spec.log == Log::kDb), "top_db",
          "a positive number, and only if log is db", spec.top_db.value_or(0.0));
  const bool reflected_tail = spec.tail == Tail::kCeil && (spec.framing != Framing::kCentered ||
                                                           spec.padding != Padding::kZero);
  require(!reflected_tail, "tail", "floor unless framing is centered and padding zero", "ceil");
}

}  // namespace streamtag
