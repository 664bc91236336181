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
std::pair<float, float> root(std::int64_t k, std::int64_t n) {
  const double angle = 2.0 * std::numbers::pi * static_cast<double>(k % n) / static_cast<double>(n);
  return {static_cast<float>(std::cos(angle)), static_cast<float>(-std::sin(angle))};
}

std::int32_t to_int(std::int64_t value) { return static_cast<std::int32_t>(value); }

std::size_t to_size(std::int64_t value) { return static_cast<std::size_t>(value); }

/// The samples' bound at which no power, mel or argument of the logarithm exceeds about 1e36.
float sample_limit(const Spec& spec) {
  const double log_gain = spec.log == Log::kLn1p ? std::max(1.0, spec.log_gain) : 1.0;
  const double n = static_cast<double>(spec.n_fft);
  return static_cast<float>(1e18 / (spec.gain * n * std::sqrt(log_gain)));
}

}  // namespace

Plan::Plan(const Spec& given, const Kernel& code)
    : spec(given), kernel(code), limit(sample_limit(given)) {
  if (spec.kind == Kind::kRaw) return;
  plan_fft();
  plan_stages();
  plan_mels();
  plan_log();
  const Tables& t = tables;
  scratch = to_size(t.n_fft + t.bins + 4 * t.rows + 2 * t.lanes + t.groups * t.mel_lanes);
  // Together they need 2 N vectors, and must not have to wait for each other's running maximum.
  constexpr std::int64_t kMostSamples = 1024;
  const bool alike = spec.order == Order::kMelLog && !spec.top_db;
  if (!alike || spec.n_fft > kMostSamples || spec.hop > spec.n_fft) return;
  batch = t.lanes;
  const std::int64_t vectors = t.n_fft + t.bins + 2 * t.rows + t.n_mels + t.lanes;
  scratch = std::max(scratch, to_size(vectors * t.lanes));
}

/// Window and first stage.
void Plan::plan_fft() {
  Tables& t = tables;
  const std::int64_t n = spec.n_fft;
  t.lanes = kernel.lanes;
  while (2 * t.lanes * t.lanes > n) t.lanes /= 2;  // at least L rows
  t.n_fft = to_int(n);
  t.rows = t.n_fft / (2 * t.lanes);

  window_ = Aligned<float>(to_size(n));
  const std::vector<double> window = analysis_window(spec);
  const std::int64_t lanes = t.lanes, rows = t.rows;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t row = i % rows, q = i / rows;
    const std::int64_t at = (row / lanes * 2 * lanes + q) * lanes + row % lanes;
    window_[at] = static_cast<float>(window[to_size(i)] * spec.gain);
  }
  t.window = window_.data();

  twist_ = Aligned<float>(to_size(2 * rows * (lanes - 1)));
  for (std::int64_t row = 0; row < rows; ++row)
    for (std::int64_t p = 1; p < lanes; ++p) {
      const std::int64_t at = (row / lanes * (lanes - 1) + p - 1) * 2 * lanes + row % lanes;
      std::tie(twist_[at], twist_[at + lanes]) = root(row * p, n);
    }
  t.twist = twist_.data();

  untangle_ = Aligned<float>(to_size(2 * rows));
  for (std::int64_t j = 0; j < rows; ++j)
    std::tie(untangle_[j], untangle_[rows + j]) = root(j, 2 * rows);
  t.untangle = untangle_.data();
}

/// The M-point FFTs: eights, and fours where the power of two asks for them.
void Plan::plan_stages() {
  Tables& t = tables;
  for (std::int32_t rest = t.rows; rest > 1; rest /= t.radix[t.stages++]) {
    const bool eight = rest == 8 || rest >= 32;
    t.radix[t.stages] = eight ? 8 : 4;
  }

  turns_ = Aligned<float>(to_size(2 * t.rows * 2));
  std::int64_t at = 0;
  std::int64_t size = t.rows;
  for (std::int32_t stage = 0; stage + 1 < t.stages; ++stage) {
    const std::int64_t radix = t.radix[stage];
    for (std::int64_t j = 0; j < size / radix; ++j)
      for (std::int64_t q = 1; q < radix; ++q, at += 2)
        std::tie(turns_[at], turns_[at + 1]) = root(j * q, size);
    size /= radix;
  }
  t.turns = turns_.data();

  const std::int32_t blocks = t.rows / t.radix[t.stages - 1];
  order_ = Aligned<std::int32_t>(to_size(blocks));
  for (std::int32_t block = 0; block < blocks; ++block) {
    std::int32_t rest = block, below = blocks, place = 1, first = 0;
    for (std::int32_t stage = 0; stage + 1 < t.stages; ++stage) {
      below /= t.radix[stage];
      first += rest / below * place;
      rest %= below;
      place *= t.radix[stage];
    }
    order_[block] = first;
  }
  t.order = order_.data();
}

/// The mel matrix, L bands at a time over equally many vectors of bins.
void Plan::plan_mels() {
  Tables& t = tables;
  t.mel_lanes = std::min(8, t.lanes);
  const std::int64_t lanes = t.mel_lanes;
  t.spectrum = spec.spectrum;
  t.bins = t.n_fft / 2 + t.lanes;
  t.n_mels = to_int(spec.n_mels);
  t.groups = to_int((spec.n_mels + t.lanes - 1) / t.lanes * t.lanes / lanes);
  std::vector<Band> bands = mel_bands(spec);
  bands.resize(to_size(t.groups * lanes));

  spans_ = Aligned<std::int32_t>(to_size(t.groups));
  firsts_ = Aligned<std::int32_t>(to_size(t.groups * lanes));
  std::int64_t vectors = 0;
  for (std::int64_t group = 0; group < t.groups; ++group) {
    std::size_t widest = 1;
    for (std::int64_t m = 0; m < lanes; ++m)
      widest = std::max(widest, bands[to_size(group * lanes + m)].weights.size());
    spans_[group] = to_int((static_cast<std::int64_t>(widest) + lanes - 1) / lanes);
    vectors += spans_[group] * lanes;
  }

  weights_ = Aligned<float>(to_size(vectors * lanes));
  float* rows = weights_.data();
  for (std::int64_t group = 0; group < t.groups; ++group) {
    const std::int64_t span = spans_[group] * lanes;
    for (std::int64_t m = 0; m < lanes; ++m) {
      const Band& band = bands[to_size(group * lanes + m)];
      const std::int64_t first = std::min(band.first, t.bins - span);
      firsts_[group * lanes + m] = to_int(first);
      for (std::size_t i = 0; i < band.weights.size(); ++i) {
        const std::int64_t bin = band.first - first + static_cast<std::int64_t>(i);
        rows[(bin / lanes * lanes + m) * lanes + bin % lanes] = static_cast<float>(band.weights[i]);
      }
    }
    rows += span * lanes;
  }
  t.spans = spans_.data();
  t.firsts = firsts_.data();
  t.weights = weights_.data();
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
  static std::array<std::shared_ptr<const Plan>, 16> recent;  // kept although nobody holds them
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
