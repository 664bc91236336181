#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "plan.hpp"
#include "ring.hpp"

namespace streamtag {

/// Collects frames of any streams, to compute several at once.
///
/// The memory that `add` was given must not change until `flush`.
class Batch {
 public:
  Batch() = default;
  ~Batch() { flush(); }
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;

  /// Adds the frame of `samples`; its values go to `out`.
  void add(const Plan& plan, const float* samples, float* out);
  /// Computes every frame that was added and not computed yet.
  void flush();

 private:
  static constexpr std::int32_t kMaxFrames = 16;

  const Plan* plan_ = nullptr;
  std::int32_t count_ = 0;
  const float* samples_[kMaxFrames];
  float* out_[kMaxFrames];
};

/// Makes frames of the samples of one stream, the same frames however the samples are cut into
/// blocks.
class Extractor {
 public:
  /// The stream's first frame gets the index `start_frame`, its first sample the index
  /// `start_frame * hop`.
  Extractor(std::shared_ptr<const Plan> plan, std::int64_t start_frame);

  const Spec& spec() const { return plan_->spec; }
  const char* isa() const { return plan_->kernel.isa; }
  /// Index of the sample that comes next.
  std::int64_t position() const { return origin_ + awaited_ + consumed_; }
  /// Samples since the start that were NaN or infinite and counted as 0.
  std::int64_t nonfinite() const { return nonfinite_; }
  /// Running maximum of the logged values that top_db refers to.
  float peak() const { return peak_; }
  void set_peak(float peak) { peak_ = peak; }

  /// Throws std::invalid_argument after `close`.
  void require_open() const;
  /// Frames that pushing `count` more samples would yield.
  std::int64_t due(std::int64_t count) const;
  /// Frames that `close` would yield.
  std::int64_t due_at_close() const;

  /// Takes `count` samples and appends every frame that they complete to the ring.
  ///
  /// The ring holds the values after `batch.flush()`. Until then neither this extractor nor the
  /// ring may be used.
  void push(const float* samples, std::int64_t count, FrameRing& ring, Batch& batch);
  void push(const float* samples, std::int64_t count, FrameRing& ring) {
    Batch batch;
    push(samples, count, ring, batch);
  }
  /// Ends the stream and appends the frames that reach beyond its end.
  void close(FrameRing& ring);
  /// Prepares for another stream, whose first frame has the index `start_frame`.
  void reset(std::int64_t start_frame);

 private:
  std::int64_t half() const;
  std::int64_t frames_in(std::int64_t consumed) const;
  std::int64_t frames_at_end(std::int64_t consumed) const;
  std::int64_t first_of(std::int64_t count) const;
  std::int64_t take_first(const float* samples, std::int64_t count);
  std::int64_t take(const float* samples, std::int64_t count);
  void emphasise(float* samples, std::int64_t count);
  void drain(FrameRing& ring, Batch& batch);
  void make_frame(const float* samples, FrameRing& ring);
  std::int64_t free_space() const;
  void discard_old();
  void reflect_start();
  float sample_at(std::int64_t index) const;

  std::shared_ptr<const Plan> plan_;
  std::int64_t origin_ = 0;  // absolute index of the first sample; all others here count from it
  // With pre-emphasis the stream that is framed is y[n] = x[n + 1] - a x[n], one sample shorter.
  std::int64_t awaited_ = 0;   // samples taken before the first y: 0 or 1
  float previous_ = 0.0f;      // the last x
  std::int64_t consumed_ = 0;  // samples of the framed stream taken so far
  std::int64_t emitted_ = 0;   // frames appended so far
  std::int64_t base_ = 0;      // index of history_[0]
  std::int64_t end_ = 0;       // index after the last sample in history_
  std::int64_t nonfinite_ = 0;
  float peak_ = std::numeric_limits<float>::lowest();
  bool closed_ = false;
  bool start_missing_ = false;  // the samples for the reflection at the start are not there yet
  std::vector<float> history_;
};

}  // namespace streamtag
