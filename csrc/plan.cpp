#include "plan.hpp"

#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <stdexcept>
#include <string>
#include <utility>

namespace streamtag {
namespace {

void require(bool fine, const char* field, const std::string& expected, double got) {
  if (fine) return;
  throw std::invalid_argument(std::string(field) + ": expected " + expected + ", got " +
                              std::to_string(got));
}

void require(bool fine, const char* field, const std::string& expected, std::int64_t got) {
  if (fine) return;
  throw std::invalid_argument(std::string(field) + ": expected " + expected + ", got " +
                              std::to_string(got));
}

std::shared_ptr<const Plan> make_plan(const Spec& spec, const Kernel& kernel) {
  auto plan = std::make_shared<Plan>();
  plan->spec = spec;
  plan->kernel = &kernel;
  plan->limit = static_cast<float>(1e18 / (spec.gain * static_cast<double>(spec.n_fft)));
  if (spec.kind == Kind::kRaw) return plan;
  for (const double value : analysis_window(spec))
    plan->window.push_back(static_cast<float>(value * spec.gain));
  for (std::int64_t i = 0; i < spec.n_fft; ++i) {
    const double angle =
        -2.0 * std::numbers::pi * static_cast<double>(i) / static_cast<double>(spec.n_fft);
    plan->twiddles.push_back(static_cast<float>(std::cos(angle)));
    plan->twiddles.push_back(static_cast<float>(std::sin(angle)));
  }
  plan->bands = mel_bands(spec);
  for (const double value : a_weighting(spec))
    plan->weighting.push_back(spec.weighting == Weighting::kA ? static_cast<float>(value) : 0.0f);
  return plan;
}

}  // namespace

void check(const Spec& spec) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  const std::int64_t n = spec.n_fft;
  require(n >= 32 && n <= 16384 && (n & (n - 1)) == 0, "n_fft", "a power of two in [32, 16384]", n);
  require(spec.win_length >= 1 && spec.win_length <= n, "win_length", "[1, n_fft]",
          spec.win_length);
  require(spec.hop >= 1 && spec.hop < kMost, "hop", "[1, 2^31)", spec.hop);
  require(spec.sample_rate >= 1 && spec.sample_rate < kMost, "sample_rate", "[1, 2^31)",
          spec.sample_rate);
  require(spec.n_mels >= 1 && spec.n_mels <= 4096, "n_mels", "[1, 4096]", spec.n_mels);
  require(spec.f_min >= 0.0, "f_min", "at least 0", spec.f_min);
  require(spec.f_max > spec.f_min && spec.f_max <= 0.5 * static_cast<double>(spec.sample_rate),
          "f_max", "(f_min, sample_rate / 2]", spec.f_max);
  require(std::isfinite(spec.log_multiplier), "log_multiplier", "a number", spec.log_multiplier);
  require(spec.log_floor >= 0.0, "log_floor", "at least 0", spec.log_floor);
  require(spec.log_offset >= 0.0, "log_offset", "at least 0", spec.log_offset);
  const bool logarithm = spec.log == Log::kLn || spec.log == Log::kDb;
  require(!logarithm || spec.log_floor + spec.log_offset >= 1e-37, "log_floor + log_offset",
          "at least 1e-37", spec.log_floor + spec.log_offset);
  require(spec.log_gain > 0.0 && spec.log_gain <= 1e18, "log_gain", "(0, 1e18]", spec.log_gain);
  require(spec.gain >= 1e-9 && spec.gain <= 1e9, "gain", "[1e-9, 1e9]", spec.gain);
  require(!spec.top_db || (*spec.top_db > 0.0 && spec.log == Log::kDb), "top_db",
          "a positive number, with log = db", spec.top_db.value_or(0.0));
}

std::shared_ptr<const Plan> plan_for(const Spec& spec, const char* isa) {
  check(spec);
  const Kernel& kernel = kernel_for(isa);
  static std::mutex mutex;
  static std::map<std::pair<Spec, const Kernel*>, std::weak_ptr<const Plan>> plans;
  const std::lock_guard lock(mutex);
  std::weak_ptr<const Plan>& entry = plans[{spec, &kernel}];
  std::shared_ptr<const Plan> plan = entry.lock();
  if (!plan) entry = plan = make_plan(spec, kernel);
  return plan;
}

}  // namespace streamtag
