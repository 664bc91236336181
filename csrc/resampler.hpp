#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "plan.hpp"

namespace streamtag {

/// A low-pass filter for each position of an output sample between two input samples.
///
/// A sinc under a Kaiser window: flat within 0.01 dB up to 0.91 of the lower Nyquist frequency, and
/// 100 dB down from 1.09 of it on.
class ResamplingFilter {
 public:
  ResamplingFilter(std::int64_t from_rate, std::int64_t to_rate);

  const std::int64_t from, to;  // in lowest terms: `to` outputs per `from` inputs
  const std::int64_t length;    // inputs that an output depends on; even

  /// (length,) weights of the inputs before and after output `phase` / `to`.
  const float* phase(std::int64_t phase) const { return taps_.data() + phase * length; }

  /// Weights of the filter that halves the rate, and the inputs that they are for, the smallest
  /// first; else none. Nearly every second weight is 0 and left out.
  const std::vector<float>& weights() const { return weights_; }
  const std::vector<std::int64_t>& inputs() const { return inputs_; }

 private:
  Aligned<float> taps_;
  std::vector<float> weights_;
  std::vector<std::int64_t> inputs_;
};

/// The filter of two rates. Streams with the same rates share it.
std::shared_ptr<const ResamplingFilter> filter_for(std::int64_t from_rate, std::int64_t to_rate);

/// Streaming sample rate conversion. Each output has the same bits however the samples are cut.
class Resampler {
 public:
  Resampler(std::int64_t from_rate, std::int64_t to_rate);

  /// Takes finite samples and appends those that are ready to `out`.
  void push(const float* samples, std::int64_t count, std::vector<float>& out);
  /// Ends the stream: appends the rest. Only `reset` may follow.
  void close(std::vector<float>& out);
  void reset();
  /// No more outputs than this come of `count` inputs at once.
  std::int64_t most(std::int64_t count) const { return count * filter_->to / filter_->from + 1; }

 private:
  void make(std::int64_t until, std::vector<float>& out);
  void halve(std::int64_t until, std::vector<float>& out);
  void discard_old();

  std::shared_ptr<const ResamplingFilter> filter_;
  const Kernel& kernel_;
  std::vector<float> history_;
  std::int64_t base_ = 0;   // index of history_[0]
  std::int64_t taken_ = 0;  // inputs so far
  std::int64_t made_ = 0;   // outputs so far
};

}  // namespace streamtag
