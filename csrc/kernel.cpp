// Compiled once per instruction set, each time into its own namespace.

#include <algorithm>
#include <cmath>
#include <complex>

#include "plan.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

std::int64_t clean(const float* samples, std::int64_t count, float limit, float* out) {
  std::int64_t bad = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const bool finite = std::isfinite(samples[i]);
    bad += !finite;
    out[i] = finite ? std::clamp(samples[i], -limit, limit) : 0.0f;
  }
  return bad;
}

float scaled_log(const Spec& spec, float x) {
  const float floored =
      std::max(x, static_cast<float>(spec.log_floor)) + static_cast<float>(spec.log_offset);
  switch (spec.log) {
    case Log::kLn:
      return std::log(floored);
    case Log::kDb:
      return static_cast<float>(spec.log_multiplier) * std::log10(floored);
    case Log::kLn1p:
      return std::log1p(static_cast<float>(spec.log_gain) * x);
    default:
      return x;
  }
}

void clip(const Spec& spec, std::vector<float>& values, float* peak) {
  if (!spec.top_db) return;
  for (const float value : values) *peak = std::max(*peak, value);
  for (float& value : values) value = std::max(value, *peak - static_cast<float>(*spec.top_db));
}

std::vector<float> spectrum(const Plan& plan, const float* samples) {
  const auto n = static_cast<std::size_t>(plan.spec.n_fft);
  std::vector<std::complex<float>> x(n);
  for (std::size_t i = 0, j = 0; i < n; ++i) {
    x[j] = samples[i] * plan.window[i];
    std::size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
  }
  for (std::size_t half = 1; half < n; half *= 2)
    for (std::size_t start = 0; start < n; start += 2 * half)
      for (std::size_t i = 0; i < half; ++i) {
        const std::size_t t = i * (n / (2 * half)) * 2;
        const float wr = plan.twiddles[t], wi = plan.twiddles[t + 1];
        const std::complex<float> b = x[start + half + i];
        const std::complex<float> a = x[start + i];
        const std::complex<float> turned(b.real() * wr - b.imag() * wi,
                                         b.real() * wi + b.imag() * wr);
        x[start + i] = a + turned;
        x[start + half + i] = a - turned;
      }
  std::vector<float> power(static_cast<std::size_t>(plan.spec.bins()));
  for (std::size_t k = 0; k < power.size(); ++k) {
    power[k] = x[k].real() * x[k].real() + x[k].imag() * x[k].imag();
    if (plan.spec.spectrum == Spectrum::kMagnitude) power[k] = std::sqrt(power[k]);
  }
  return power;
}

void frame(const Plan& plan, const float* samples, float* peak, float* out) {
  std::vector<float> bins = spectrum(plan, samples);
  if (plan.spec.order == Order::kLogMel) {
    for (float& bin : bins) bin = scaled_log(plan.spec, bin);
    clip(plan.spec, bins, peak);
    for (std::size_t k = 0; k < bins.size(); ++k) bins[k] += plan.weighting[k];
  }
  std::vector<float> mels;
  for (const Band& band : plan.bands) {
    double sum = 0;
    for (std::size_t i = 0; i < band.weights.size(); ++i)
      sum += band.weights[i] * static_cast<double>(bins[static_cast<std::size_t>(band.first) + i]);
    mels.push_back(static_cast<float>(sum));
  }
  if (plan.spec.order == Order::kMelLog) {
    for (float& mel : mels) mel = scaled_log(plan.spec, mel);
    clip(plan.spec, mels, peak);
  }
  std::copy(mels.begin(), mels.end(), out);
}

#define STREAMTAG_TEXT_OF(name) #name
#define STREAMTAG_TEXT(name) STREAMTAG_TEXT_OF(name)

}  // namespace

extern const Kernel kernel;
const Kernel kernel = {STREAMTAG_TEXT(STREAMTAG_KERNEL), clean, frame};

}  // namespace streamtag::STREAMTAG_KERNEL
