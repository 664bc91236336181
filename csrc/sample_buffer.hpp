#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

namespace streamtag {

/// Audio of one stream that waits for the engine: one thread appends, one removes.
///
/// It owns its samples. Consecutive samples are one run; a run that begins later than the last one
/// ended is a gap.
class SampleBuffer {
 public:
  /// `bound`: it is full while so many samples wait; 0 for never.
  explicit SampleBuffer(std::int64_t bound) : bound_(bound) {}

  /// The first run that waits.
  struct Front {
    std::int64_t start = 0;
    std::int64_t count = 0;
    bool has_sides = false;
    bool exists = true;  // false if nothing waits
  };

  /// Appends samples, and left and right interleaved where `sides` is not null. Without samples it
  /// only says where the next ones begin.
  void append(std::int64_t start, const float* samples, const float* sides, std::int64_t count);
  /// Samples that wait.
  std::int64_t waiting() const;
  bool full() const { return bound_ > 0 && waiting() >= bound_; }
  /// Copies the beginning of the first run, at most `most` samples, without removing it.
  Front peek(std::int64_t most, std::vector<float>& samples, std::vector<float>& sides) const;
  /// Whether there is a run, perhaps an empty one.
  bool any() const;
  /// Moves what waits to later positions.
  void shift(std::int64_t by);
  /// Removes left and right of what waits.
  void drop_sides();
  /// Removes so many samples, all of the first run, and the run if nothing is left of it.
  void pop(std::int64_t count);

 private:
  const std::int64_t bound_;
  mutable std::mutex mutex_;
  std::deque<Front> runs_;
  std::vector<float> samples_, sides_;
  std::size_t first_ = 0, first_side_ = 0;  // in samples_ and sides_; what is before was removed
};

}  // namespace streamtag
