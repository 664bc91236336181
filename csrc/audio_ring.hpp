#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace streamtag {

/// The last seconds of a stream's audio, as 16-bit samples, each under its own index.
///
/// Index k is the sample at k / rate seconds of stream time. What is missing is zero. One thread
/// appends, any other reads.
class AudioRing {
 public:
  /// Room for `capacity` samples; the first one gets the index `start`.
  AudioRing(std::int64_t rate, std::int64_t capacity, std::int64_t start);

  std::int64_t rate() const { return rate_; }
  std::int64_t capacity() const { return capacity_; }
  /// Samples [begin(), end()) can be read.
  std::int64_t begin() const;
  std::int64_t end() const;

  void append(const float* samples, std::int64_t count);
  /// The next sample gets the index `position`; those before it are missing.
  void skip_to(std::int64_t position);
  /// Copies at most `most` samples from the index `first` on, or from the first one that is left.
  /// Returns the index of the first one that was copied.
  std::int64_t read(std::int64_t first, std::int64_t most, std::vector<std::int16_t>& out) const;

 private:
  std::int64_t begin_unlocked() const;

  const std::int64_t rate_, capacity_;
  mutable std::mutex mutex_;
  std::int64_t start_, end_;
  std::unique_ptr<std::int16_t[]> samples_;  // not filled: pages come with the audio
};

}  // namespace streamtag
