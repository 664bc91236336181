#include "resampler.hpp"

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <numbers>
#include <numeric>
#include <stdexcept>
#include <string>
#include <utility>

#include "denormals.hpp"

namespace streamtag {
namespace {

constexpr double kAttenuation = 80.0;  // dB
constexpr double kTransition = 0.174;  // of the lower Nyquist frequency, half of it on each side
constexpr std::int64_t kPiece = 4096;  // inputs that are taken at once
constexpr std::int64_t kDivisor = 4;   // larger ones leave too few outputs of a block
constexpr double kNothing = 1e-9;      // a weight that is 0 but for rounding
constexpr std::int64_t kLargest = std::int64_t{1} << 28;  // weights of a filter

std::int64_t checked(std::int64_t rate) {
  if (rate < 1)
    throw std::invalid_argument("resampler: expected rates of at least 1 Hz, got " +
                                std::to_string(rate) + " Hz");
  return rate;
}

/// Modified Bessel function of the first kind, order 0.
double bessel(double x) {
  double sum = 1.0, term = 1.0;
  for (int k = 1; term > 1e-17 * sum; ++k) {
    term *= x / (2 * k) * (x / (2 * k));
    sum += term;
  }
  return sum;
}

/// Length of a Kaiser window (Oppenheim and Schafer, eq. 7.76), to the nearest multiple of 16.
std::int64_t length_for(std::int64_t from, std::int64_t to) {
  const double cutoff = std::min(1.0, static_cast<double>(to) / static_cast<double>(from));
  const double width = std::numbers::pi * kTransition * cutoff;
  const double length = (kAttenuation - 8) / (2.285 * width) + 1;
  return std::max<std::int64_t>(16, (static_cast<std::int64_t>(length) + 8) / 16 * 16);
}

}  // namespace

ResamplingFilter::ResamplingFilter(std::int64_t from_rate, std::int64_t to_rate)
    : from(checked(from_rate) / std::gcd(from_rate, to_rate)),
      to(checked(to_rate) / std::gcd(from_rate, to_rate)),
      length(length_for(from, to)) {
  if (length > kLargest / to)
    throw std::invalid_argument("resampler: " + std::to_string(from_rate) + " Hz to " +
                                std::to_string(to_rate) +
                                " Hz: expected rates with a common divisor or a smaller ratio");
  taps_ = Aligned<float>(static_cast<std::size_t>(to * length));
  const double beta = 0.1102 * (kAttenuation - 8.7);  // Kaiser 1974
  const double cutoff = std::min(1.0, static_cast<double>(to) / static_cast<double>(from));
  const double half = static_cast<double>(length) / 2;
  std::vector<double> weights(static_cast<std::size_t>(length));
  for (std::int64_t p = 0; p < to; ++p) {
    double sum = 0.0;
    for (std::int64_t i = 0; i < length; ++i) {
      const double t = static_cast<double>(i - length / 2 + 1) -
                       static_cast<double>(p) / static_cast<double>(to);
      const double x = std::numbers::pi * cutoff * t, r = t / half;
      const double window = bessel(beta * std::sqrt(std::max(0.0, 1 - r * r)));
      sum += weights[static_cast<std::size_t>(i)] = (x == 0 ? 1.0 : std::sin(x) / x) * window;
    }
    for (std::int64_t i = 0; i < length; ++i)
      taps_[p * length + i] = static_cast<float>(weights[static_cast<std::size_t>(i)] / sum);
  }
  if (to != 1 || from != 2) return;
  for (std::int64_t i = 0; i < length; ++i)
    if (std::abs(taps_[i]) > kNothing) inputs_.push_back(i);
  const auto size = [&](std::int64_t i) { return std::abs(taps_[i]); };
  std::ranges::stable_sort(inputs_, {}, size);
  for (const std::int64_t i : inputs_) weights_.push_back(taps_[i]);
}

std::shared_ptr<const ResamplingFilter> filter_for(std::int64_t from_rate, std::int64_t to_rate) {
  static std::mutex mutex;
  static std::map<std::pair<std::int64_t, std::int64_t>, std::weak_ptr<const ResamplingFilter>>
      known;
  const std::scoped_lock lock(mutex);
  auto& entry = known[{from_rate, to_rate}];
  auto found = entry.lock();
  if (!found) entry = found = std::make_shared<const ResamplingFilter>(from_rate, to_rate);
  return found;
}

Resampler::Resampler(std::int64_t from_rate, std::int64_t to_rate)
    : filter_(filter_for(from_rate, to_rate)), kernel_(kernel_for("")) {
  reset();
}

void Resampler::reset() {
  taken_ = made_ = 0;
  base_ = 1 - filter_->length / 2;
  history_.assign(static_cast<std::size_t>(-base_), 0.0f);
}

void Resampler::push(const float* samples, std::int64_t count, std::vector<float>& out) {
  const FlushDenormals mode;
  while (count > 0) {
    const std::int64_t n = std::min(count, kPiece);
    discard_old();
    history_.insert(history_.end(), samples, samples + n);
    samples += n;
    count -= n;
    taken_ += n;
    // Output k lies at the input k * from / to and needs length / 2 inputs from there on.
    const std::int64_t last = taken_ - 1 - filter_->length / 2;
    if (last >= 0) make(((last + 1) * filter_->to + filter_->from - 1) / filter_->from, out);
  }
}

void Resampler::close(std::vector<float>& out) {
  const FlushDenormals mode;
  discard_old();
  history_.insert(history_.end(), static_cast<std::size_t>(filter_->length), 0.0f);
  make((2 * taken_ * filter_->to + filter_->from) / (2 * filter_->from), out);
}

/// Makes the outputs before `until`.
void Resampler::make(std::int64_t until, std::vector<float>& out) {
  const ResamplingFilter& filter = *filter_;
  if (!filter.weights().empty()) return halve(until, out);
  const std::int32_t lanes = kernel_.lanes;
  const float* samples[16];
  const float* taps[16];
  float values[16];
  const std::int64_t whole = filter.from / filter.to, part = filter.from % filter.to;
  std::int64_t phase = made_ * filter.from % filter.to;
  const float* first =
      history_.data() + (made_ * filter.from / filter.to - filter.length / 2 + 1 - base_);
  for (; made_ < until; made_ += lanes) {
    const auto n = static_cast<std::int32_t>(std::min<std::int64_t>(lanes, until - made_));
    for (std::int32_t i = 0; i < n; ++i) {
      samples[i] = first;
      taps[i] = filter.phase(phase);
      first += whole;
      phase += part;
      if (phase < filter.to) continue;
      phase -= filter.to;
      ++first;
    }
    for (std::int32_t i = n; i < lanes; ++i) {  // unused lanes repeat the last output
      samples[i] = samples[n - 1];
      taps[i] = taps[n - 1];
    }
    kernel_.filter(samples, taps, static_cast<std::int32_t>(filter.length), values);
    out.insert(out.end(), values, values + n);
  }
  made_ = until;
}

/// The same where the rate is halved: even and odd inputs are parted, so that neighbouring outputs
/// need neighbouring inputs.
void Resampler::halve(std::int64_t until, std::vector<float>& out) {
  static thread_local std::vector<float> parted;
  static thread_local std::vector<const float*> rows;
  const std::int64_t count = until - made_;
  if (count <= 0) return;
  const std::int64_t padded = (count + kMixed - 1) / kMixed * kMixed;
  const std::int64_t pairs = count + filter_->length / 2 - 1, width = padded + filter_->length / 2;
  const float* first = history_.data() + (2 * made_ - filter_->length / 2 + 1 - base_);
  parted.resize(static_cast<std::size_t>(2 * width));
  float *even = parted.data(), *odd = even + width;
  for (std::int64_t k = 0; k < pairs; ++k) {
    even[k] = first[2 * k];
    odd[k] = first[2 * k + 1];
  }
  rows.clear();
  for (const std::int64_t i : filter_->inputs()) rows.push_back((i & 1 ? odd : even) + i / 2);
  const std::size_t before = out.size();
  out.resize(before + static_cast<std::size_t>(padded));
  kernel_.mix(rows.data(), filter_->weights().data(), static_cast<std::int32_t>(rows.size()),
              static_cast<std::int32_t>(count), out.data() + before);
  out.resize(before + static_cast<std::size_t>(count));
  made_ = until;
}

/// Removes the inputs that no later output needs.
void Resampler::discard_old() {
  const std::int64_t first = made_ * filter_->from / filter_->to - filter_->length / 2 + 1;
  const std::int64_t n =
      std::clamp<std::int64_t>(first - base_, 0, static_cast<std::int64_t>(history_.size()));
  history_.erase(history_.begin(), history_.begin() + n);
  base_ += n;
}

}  // namespace streamtag
