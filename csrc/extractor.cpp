#include "extractor.hpp"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <utility>

#include "denormals.hpp"

namespace streamtag {
namespace {

/// Where index `i` of a signal of `length` samples lies after reflecting at both ends, repeatedly.
std::int64_t reflected(std::int64_t i, std::int64_t length) {
  if (length == 1) return 0;
  const std::int64_t period = 2 * (length - 1);
  i = std::abs(i) % period;
  return std::min(i, period - i);
}

/// This thread's scratch memory, large enough for the plan.
Memory memory_for(const Plan& plan) {
  static thread_local std::size_t n_floats = 0, n_doubles = 0;
  static thread_local Aligned<float> floats;
  static thread_local Aligned<double> doubles;
  if (plan.scratch > n_floats) {
    floats = Aligned<float>(plan.scratch);
    n_floats = plan.scratch;
  }
  if (plan.precise_scratch > n_doubles) {
    doubles = Aligned<double>(plan.precise_scratch);
    n_doubles = plan.precise_scratch;
  }
  return {floats.data(), doubles.data()};
}

/// Samples that a stream keeps: those left over from the last frame, and those of a whole batch.
std::size_t history_size(const Plan& plan) {
  const Spec& spec = plan.spec;
  if (spec.kind == Kind::kRaw) return 1024;
  const std::int64_t batch = spec.n_fft + (plan.batch - 1) * spec.hop;
  return static_cast<std::size_t>(std::max(2 * spec.n_fft, plan.batch > 1 ? batch : 0));
}

}  // namespace

void Batch::add(const Plan& plan, const float* samples, float* out) {
  if (plan_ != &plan || count_ == plan.batch) flush();
  plan_ = &plan;
  samples_[count_] = samples;
  out_[count_] = out;
  ++count_;
}

void Batch::flush() {
  if (count_ == 0) return;
  const FlushDenormals mode;
  const Memory memory = memory_for(*plan_);
  const std::int32_t lanes = plan_->batch;
  if (4 * count_ >= 3 * lanes) {
    for (std::int32_t i = count_; i < lanes; ++i) {  // unused lanes repeat the last frame
      samples_[i] = samples_[count_ - 1];
      out_[i] = out_[count_ - 1];
    }
    plan_->kernel.batch(plan_->tables, samples_, memory, out_);
  } else {
    float peak = 0.0f;  // not used: plans with top_db have no batches
    for (std::int32_t i = 0; i < count_; ++i)
      plan_->kernel.frame(plan_->tables, samples_[i], memory, &peak, out_[i]);
  }
  count_ = 0;
}

Extractor::Extractor(std::shared_ptr<const Plan> plan, std::int64_t start_frame)
    : plan_(std::move(plan)), history_(history_size(*plan_)) {
  reset(start_frame);
}

void Extractor::reset(std::int64_t start_frame) {
  const std::int64_t hop = spec().kind == Kind::kRaw ? 1 : spec().hop;
  const std::int64_t most = (std::int64_t{1} << 62) / hop;
  if (start_frame < 0 || start_frame > most)
    throw std::invalid_argument("start_frame: expected one of " + range(0, most + 1) + ", got " +
                                std::to_string(start_frame));
  origin_ = start_frame * hop;
  awaited_ = consumed_ = emitted_ = nonfinite_ = 0;
  peak_ = std::numeric_limits<float>::lowest();
  closed_ = false;
  base_ = -half();
  end_ = 0;
  std::fill_n(history_.begin(), half(), 0.0f);
  start_missing_ = half() > 0 && spec().padding == Padding::kReflect;
}

/// Samples before the stream's start that the first frame covers.
std::int64_t Extractor::half() const {
  return spec().kind == Kind::kLogMel && spec().framing == Framing::kCentered ? spec().n_fft / 2
                                                                              : 0;
}

/// Frames that `consumed` samples complete.
std::int64_t Extractor::frames_in(std::int64_t consumed) const {
  if (spec().kind == Kind::kRaw) return consumed;
  if (start_missing_ && consumed <= half()) return 0;
  const std::int64_t whole = consumed + half() - spec().n_fft;
  return whole < 0 ? 0 : whole / spec().hop + 1;
}

/// Frames of a stream that ends after `consumed` samples.
std::int64_t Extractor::frames_at_end(std::int64_t consumed) const {
  if (half() == 0) return frames_in(consumed);
  if (consumed == 0) return 0;
  if (spec().tail == Tail::kFloor) return consumed / spec().hop + 1;
  return (consumed + spec().hop - 1) / spec().hop + 1;
}

std::int64_t Extractor::due(std::int64_t count) const {
  return frames_in(consumed_ + count - first_of(count)) - emitted_;
}

std::int64_t Extractor::due_at_close() const {
  return closed_ ? 0 : frames_at_end(consumed_) - emitted_;
}

void Extractor::require_open() const {
  if (closed_) throw std::invalid_argument("push after close: reset the front end first");
}

std::int64_t Extractor::free_space() const {
  return base_ + static_cast<std::int64_t>(history_.size()) - end_;
}

void Extractor::push(const float* samples, std::int64_t count, FrameRing& ring, Batch& batch) {
  require_open();
  const std::int64_t first = take_first(samples, count);
  samples += first;
  count -= first;
  if (free_space() < count) discard_old();
  while (count > 0) {
    if (free_space() == 0) {
      batch.flush();
      discard_old();
    }
    const std::int64_t taken = take(samples, count);
    samples += taken;
    count -= taken;
    drain(ring, batch);
  }
}

/// Of the next `count` samples, how many come before the first one of the framed stream.
std::int64_t Extractor::first_of(std::int64_t count) const {
  return spec().emphasised() && awaited_ == 0 ? std::min<std::int64_t>(count, 1) : 0;
}

/// Keeps the sample that the first difference needs; returns how many samples it took.
std::int64_t Extractor::take_first(const float* samples, std::int64_t count) {
  const std::int64_t first = first_of(count);
  if (first == 1) nonfinite_ += plan_->kernel.clean(samples, 1, plan_->limit, &previous_);
  awaited_ += first;
  return first;
}

/// Copies as many of the samples into the history as it has free space for.
std::int64_t Extractor::take(const float* samples, std::int64_t count) {
  count = std::min(count, free_space());
  float* const taken = history_.data() + (end_ - base_);
  nonfinite_ += plan_->kernel.clean(samples, static_cast<std::int32_t>(count), plan_->limit, taken);
  if (spec().emphasised()) emphasise(taken, count);
  end_ += count;
  consumed_ += count;
  return count;
}

/// Subtracts from each sample the one before it times the factor, in double precision.
void Extractor::emphasise(float* samples, std::int64_t count) {
  if (count == 0) return;
  const FlushDenormals mode;
  const double factor = spec().preemphasis;
  const auto difference = [factor](float x, float before) {
    return static_cast<float>(static_cast<double>(x) - factor * static_cast<double>(before));
  };
  const float last = samples[count - 1];
  for (std::int64_t i = count - 1; i > 0; --i) samples[i] = difference(samples[i], samples[i - 1]);
  samples[0] = difference(samples[0], previous_);
  previous_ = last;
}

/// Computes every frame whose samples are all in the history.
void Extractor::drain(FrameRing& ring, Batch& batch) {
  if (spec().kind == Kind::kRaw) {
    const auto gain = static_cast<float>(spec().gain);
    float* samples = history_.data();
    for (std::int64_t i = 0; i < end_ - base_; ++i) samples[i] *= gain;
    ring.append(samples, end_ - base_);
    base_ = emitted_ = end_;
    return;
  }
  const FlushDenormals mode;
  if (start_missing_ && consumed_ > half()) reflect_start();
  for (const std::int64_t whole = frames_in(consumed_); emitted_ < whole; ++emitted_) {
    const float* samples = history_.data() + (emitted_ * spec().hop - half() - base_);
    if (plan_->batch > 1)
      batch.add(*plan_, samples, ring.next());
    else
      make_frame(samples, ring);
  }
}

void Extractor::make_frame(const float* samples, FrameRing& ring) {
  plan_->kernel.frame(plan_->tables, samples, memory_for(*plan_), &peak_, ring.next());
}

/// Moves the samples that later frames, or the reflection at the end, still need to the front.
void Extractor::discard_old() {
  const std::int64_t next = emitted_ * spec().hop - half();
  const std::int64_t keep = std::max(base_, std::min(next, end_ - half() - 1));
  std::copy(history_.begin() + (keep - base_), history_.begin() + (end_ - base_), history_.begin());
  base_ = keep;
}

/// Puts the mirrored samples before the first one.
void Extractor::reflect_start() {
  for (std::int64_t i = base_; i < 0; ++i)
    history_[static_cast<std::size_t>(i - base_)] = sample_at(i);
  start_missing_ = false;
}

/// Sample `index` of the stream, padding included, if the stream ends now.
float Extractor::sample_at(std::int64_t index) const {
  if (index < 0 || index >= consumed_) {
    if (spec().padding == Padding::kZero) return 0.0f;
    index = reflected(index, consumed_);
  }
  return history_[static_cast<std::size_t>(index - base_)];
}

void Extractor::close(FrameRing& ring) {
  const FlushDenormals mode;
  const std::int64_t total = frames_at_end(consumed_);
  const std::int64_t n = spec().n_fft;
  const std::int64_t shift = std::min(spec().hop, n);
  std::vector<float> samples(static_cast<std::size_t>(n));
  for (std::int64_t known = 0; !closed_ && emitted_ < total; ++emitted_, known = n - shift) {
    const std::int64_t start = emitted_ * spec().hop - half();
    std::copy(samples.end() - known, samples.end(), samples.begin());
    for (std::int64_t i = known; i < n; ++i)
      samples[static_cast<std::size_t>(i)] = sample_at(start + i);
    make_frame(samples.data(), ring);
  }
  closed_ = true;
}

}  // namespace streamtag
