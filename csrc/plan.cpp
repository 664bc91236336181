#include "plan.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <mutex>
#include <numbers>
#include <tuple>
#include <utility>

#include "mel.hpp"

namespace streamtag {
namespace {

/// exp(-2 pi i k / n), rounded once.
template <class Real>
std::pair<Real, Real> root_of_unity(std::int64_t k, std::int64_t n) {
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(k % n) / static_cast<double>(n);
  return {static_cast<Real>(std::cos(angle)), static_cast<Real>(-std::sin(angle))};
}

std::int32_t to_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

/// Samples within this limit give no power, mel or argument of the logarithm above about 1e36.
float sample_limit(const Spec& spec) {
  const double log_gain = spec.log == Log::kLn1p ? std::max(1.0, spec.log_gain) : 1.0;
  const double n = static_cast<double>(spec.n_fft);
  const double largest = spec.gain * (1.0 + spec.preemphasis);
  return static_cast<float>(1e18 / (largest * n * std::sqrt(log_gain)));
}

/// The window, and the twiddle factors of the first stage and of unpacking.
template <class Real>
void plan_fft(const Spec& spec, std::int32_t lanes, Transform<Real>& t,
              TransformMemory<Real>& memory) {
  const std::int64_t n = spec.n_fft;
  t.lanes = lanes;
  while (2 * t.lanes * t.lanes > n) t.lanes /= 2;  // at least L rows
  t.n_fft = to_int(n);
  t.rows = t.n_fft / (2 * t.lanes);
  const std::int64_t width = t.lanes, rows = t.rows;

  memory.window = Aligned<Real>(to_size(n));
  const std::vector<double> window = analysis_window(spec);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = i % rows, q = i / rows;
    const std::int64_t at = (row / width * 2 * width + q) * width + row % width;
    memory.window[at] = static_cast<Real>(window[to_size(i)] * spec.gain);
  }
  t.window = memory.window.data();

  memory.first_twiddles = Aligned<Real>(to_size(2 * rows * (width - 1)));
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t p = 1; p < width; ++p) {
      const std::int64_t at = (row / width * (width - 1) + p - 1) * 2 * width + row % width;
      std::tie(memory.first_twiddles[at], memory.first_twiddles[at + width]) =
          root_of_unity<Real>(row * p, n);
    }
  t.first_twiddles = memory.first_twiddles.data();

  memory.unpack_twiddles = Aligned<Real>(to_size(2 * rows));
  for (std::int64_t j = 0; j < rows; ++j)
    std::tie(memory.unpack_twiddles[j], memory.unpack_twiddles[rows + j]) =
        root_of_unity<Real>(j, 2 * rows);
  t.unpack_twiddles = memory.unpack_twiddles.data();
}

/// The radices of the M-point FFTs: 8, and 4 where M is no power of 8.
template <class Real>
void plan_stages(Transform<Real>& t, TransformMemory<Real>& memory) {
  for (std::int32_t rest = t.rows; rest > 1; rest /= t.radix[t.stages++]) {
    const bool eight = rest == 8 || rest >= 32;
    t.radix[t.stages] = eight ? 8 : 4;
  }

  memory.stage_twiddles = Aligned<Real>(to_size(2 * t.rows * 2));
  std::int64_t at = 0;
  std::int64_t size = t.rows;
  for (std::int32_t stage = 0; stage + 1 < t.stages; ++stage) {
    const std::int64_t radix = t.radix[stage];
    for (std::int64_t j = 0; j < size / radix; ++j)
      for (std::int64_t q = 1; q < radix; ++q, at += 2)
        std::tie(memory.stage_twiddles[at], memory.stage_twiddles[at + 1]) =
            root_of_unity<Real>(j * q, size);
    size /= radix;
  }
  t.stage_twiddles = memory.stage_twiddles.data();

  const std::int32_t blocks = t.rows / t.radix[t.stages - 1];
  memory.order = Aligned<std::int32_t>(to_size(blocks));
  for (std::int32_t block = 0; block < blocks; ++block) {
    std::int32_t rest = block, below = blocks, place = 1, first = 0;
    for (std::int32_t stage = 0; stage + 1 < t.stages; ++stage) {
      below /= t.radix[stage];
      first += rest / below * place;
      rest %= below;
      place *= t.radix[stage];
    }
    memory.order[block] = first;
  }
  t.order = memory.order.data();
}

/// The mel matrix, in groups of G bands that span equally many vectors of bins.
template <class Real>
void plan_mels(const Spec& spec, std::vector<Band> bands, Transform<Real>& t,
               TransformMemory<Real>& memory) {
  t.mel_lanes = std::min(8, t.lanes);
  const std::int64_t lanes = t.mel_lanes;
  t.spectrum = spec.spectrum;
  t.bins = t.n_fft / 2 + t.lanes;
  t.n_mels = to_int(spec.n_mels);
  t.groups = to_int((spec.n_mels + t.lanes - 1) / t.lanes * t.lanes / lanes);
  bands.resize(to_size(t.groups * lanes));

  memory.spans = Aligned<std::int32_t>(to_size(t.groups));
  memory.firsts = Aligned<std::int32_t>(to_size(t.groups * lanes));
  std::int64_t vectors = 0;
  for (std::int64_t group = 0; group < t.groups; ++group) {
    std::size_t widest = 1;
    for (std::int64_t m = 0; m < lanes; ++m)
      widest = std::max(widest, bands[to_size(group * lanes + m)].weights.size());
    memory.spans[group] = to_int((static_cast<std::int64_t>(widest) + lanes - 1) / lanes);
    vectors += memory.spans[group] * lanes;
  }

  memory.weights = Aligned<Real>(to_size(vectors * lanes));
  Real* rows = memory.weights.data();
  for (std::int64_t group = 0; group < t.groups; ++group) {
    const std::int64_t span = memory.spans[group] * lanes;
    for (std::int64_t m = 0; m < lanes; ++m) {
      const Band& band = bands[to_size(group * lanes + m)];
      const std::int64_t first = std::min(band.first, t.bins - span);
      memory.firsts[group * lanes + m] = to_int(first);
      for (std::size_t i = 0; i < band.weights.size(); ++i) {
        const std::int64_t bin = band.first - first + static_cast<std::int64_t>(i);
        rows[(bin / lanes * lanes + m) * lanes + bin % lanes] = static_cast<Real>(band.weights[i]);
      }
    }
    rows += span * lanes;
  }
  t.spans = memory.spans.data();
  t.firsts = memory.firsts.data();
  t.weights = memory.weights.data();
}

template <class Real>
void plan_transform(const Spec& spec, const std::vector<Band>& bands, std::int32_t lanes,
                    Transform<Real>& t, TransformMemory<Real>& memory) {
  plan_fft(spec, lanes, t, memory);
  plan_stages(t, memory);
  plan_mels(spec, bands, t, memory);
}

template <class Real>
std::size_t scratch_of(const Transform<Real>& t) {
  return to_size(t.n_fft + t.bins + 4 * t.rows + 2 * t.lanes + t.groups * t.mel_lanes);
}

}  // namespace

Plan::Plan(const Spec& given, const Kernel& code)
    : spec(given), kernel(code), limit(sample_limit(given)) {
  if (spec.kind == Kind::kRaw) return;
  const std::vector<Band> bands = mel_bands(spec);
  plan_transform<float>(spec, bands, kernel.lanes, tables, floats_);
  plan_transform(spec, bands, std::max(4, kernel.lanes / 2), tables.precise, doubles_);
  plan_faint(bands);
  plan_log();
  const Tables& t = tables;
  scratch = scratch_of<float>(t);
  precise_scratch = scratch_of(t.precise);
  // A batch needs memory for 2 N vectors. The frames of a batch cannot share a running maximum.
  constexpr std::int64_t kMaxSamples = 1024;
  const bool alike = spec.order == Order::kMelLog && !spec.top_db;
  if (!alike || spec.n_fft > kMaxSamples || spec.hop > spec.n_fft) return;
  batch = t.lanes;
  const std::int64_t vectors = t.n_fft + t.bins + 2 * t.rows + t.n_mels + t.lanes;
  scratch = std::max(scratch, to_size(vectors * t.lanes));
}

/// The thresholds of faint.hpp, which has the formula.
void Plan::plan_faint(const std::vector<Band>& bands) {
  constexpr double kTolerated = 2e-5;
  constexpr double kAudible = 0.9e-8;  // 80 dB and a little more below the frame's largest mel
  Tables& t = tables;
  const bool power = spec.spectrum == Spectrum::kPower;
  const double bin =
      std::ldexp(2.0 / static_cast<double>(spec.n_fft), -48) / (kTolerated * kTolerated);
  faint_ = Aligned<float>(to_size(t.groups * t.mel_lanes));
  for (std::size_t m = 0; m < bands.size(); ++m) {
    double largest = 0.0, squares = 0.0;
    for (const double w : bands[m].weights) {
      largest = std::max(largest, w);
      squares += w * w;
    }
    faint_[static_cast<std::int64_t>(m)] =
        static_cast<float>(bin * (power ? 4.0 * largest : squares));
  }
  t.faint = faint_.data();
  const bool floored = spec.log == Log::kLn || spec.log == Log::kDb;
  t.audible = static_cast<float>(power ? kAudible : std::sqrt(kAudible));
  t.least = static_cast<float>(floored ? 0.9 * spec.log_floor : 0.0);
  t.allowed = static_cast<float>(floored                  ? spec.log_offset
                                 : spec.log == Log::kLn1p ? 1.0 / spec.log_gain
                                                          : 0.0);
}

void Plan::plan_log() {
  Tables& t = tables;
  t.order_of_log = spec.order;
  t.log = spec.log;
  t.floor = static_cast<float>(spec.log_floor);
  t.offset = static_cast<float>(spec.log_offset);
  t.scale = static_cast<float>(spec.log_multiplier / std::numbers::ln10);
  t.log_gain = static_cast<float>(spec.log_gain);
  t.top = static_cast<float>(spec.top_db.value_or(std::numeric_limits<double>::infinity()));

  weighting_ = Aligned<float>(to_size(t.bins));
  if (spec.weighting == Weighting::kA) {
    const std::vector<double> curve = a_weighting(spec);
    for (std::int64_t i = 0; i < spec.bins(); ++i)
      weighting_[i] = static_cast<float>(curve[to_size(i)]);
  }
  t.weighting = weighting_.data();
}

std::shared_ptr<const Plan> plan_for(const Spec& spec, const char* isa) {
  check(spec);
  const Kernel& kernel = kernel_for(isa);
  using Key = std::pair<Spec, const Kernel*>;
  static std::mutex mutex;
  static std::map<Key, std::weak_ptr<const Plan>> plans;
  static std::array<std::shared_ptr<const Plan>, 16>
      recent;  // plans that are kept although no front end uses them
  static std::size_t made = 0;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Plan>& entry = plans[{spec, &kernel}];
  std::shared_ptr<const Plan> plan = entry.lock();
  if (plan) return plan;
  plan = std::make_shared<const Plan>(spec, kernel);
  std::erase_if(
      plans, [&](const auto& other) { return other.second.expired() && &other.second != &entry; });
  entry = recent[made++ % recent.size()] = plan;
  return plan;
}

}  // namespace streamtag
