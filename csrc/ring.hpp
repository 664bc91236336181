#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace streamtag {

inline std::string range(std::int64_t first, std::int64_t last) {
  return std::string("[").append(std::to_string(first)).append(", ").append(std::to_string(last)) +
         ")";
}

/// A ring buffer of the newest `capacity` frames of a stream. Each frame keeps its index for ever.
///
/// Frame k is the k-th frame of the stream, which began with frame `start`. Indices are 64-bit and
/// never wrap: counting raw samples at 48 kHz they last six million years.
class FrameRing {
 public:
  FrameRing(std::int64_t capacity, std::int64_t width, std::int64_t start = 0)
      : capacity_(positive("capacity", capacity)),
        width_(positive("width", width)),
        own_(size(capacity, width)),
        data_(own_.data()) {
    clear(start);
  }

  /// A ring in `memory`, which has space for `capacity` frames and belongs to the caller.
  FrameRing(float* memory, std::int64_t capacity, std::int64_t width)
      : capacity_(capacity), width_(width), data_(memory) {}

  FrameRing(const FrameRing&) = delete;
  FrameRing& operator=(const FrameRing&) = delete;

  std::int64_t capacity() const { return capacity_; }
  std::int64_t width() const { return width_; }
  /// Frames [begin(), end()) can be read; older ones have been overwritten.
  std::int64_t begin() const { return std::max(start_, end_ - capacity_); }
  std::int64_t end() const { return end_; }

  /// Removes every frame; the next one gets the index `start`.
  void clear(std::int64_t start) {
    if (start < 0)
      throw std::invalid_argument("start: expected a frame index of at least 0, got " +
                                  std::to_string(start));
    start_ = end_ = start;
    slot_ = 0;
  }

  /// Appends a frame over the oldest one and returns its memory, which the caller fills.
  float* next() {
    float* frame = data_ + slot_ * width_;
    if (++slot_ == capacity_) slot_ = 0;
    ++end_;
    return frame;
  }

  /// Appends `count` frames, row-major.
  void append(const float* frames, std::int64_t count) {
    const std::int64_t skipped = std::max<std::int64_t>(0, count - capacity_);
    slot_ = (slot_ + skipped) % capacity_;
    end_ += skipped;
    frames += skipped * width_;
    for (count -= skipped; count > 0;) {
      const std::int64_t run = std::min(count, capacity_ - slot_);
      std::copy_n(frames, run * width_, data_ + slot_ * width_);
      slot_ = (slot_ + run) % capacity_;
      end_ += run;
      frames += run * width_;
      count -= run;
    }
  }

  /// Throws std::out_of_range if one of [first, first + count) is not in the ring.
  void require(std::int64_t first, std::int64_t count) const {
    if (count < 0 || first < begin() || first > end_ || count > end_ - first)
      throw std::out_of_range("frames " + range(first, first + count) +
                              " asked of a ring that holds " + range(begin(), end_));
  }

  /// Copies frames [first, first + count) to `out`, row-major; they must be there (`require`).
  void copy(std::int64_t first, std::int64_t count, float* out) const {
    std::int64_t slot = (slot_ + capacity_ - (end_ - first)) % capacity_;
    while (count > 0) {
      const std::int64_t run = std::min(count, capacity_ - slot);
      out = std::copy_n(data_ + slot * width_, run * width_, out);
      slot = (slot + run) % capacity_;
      count -= run;
    }
  }

 private:
  static std::int64_t positive(const char* name, std::int64_t value) {
    if (value < 1)
      throw std::invalid_argument(std::string(name) + ": expected at least 1, got " +
                                  std::to_string(value));
    return value;
  }

  static std::size_t size(std::int64_t capacity, std::int64_t width) {
    if (capacity > (std::int64_t{1} << 40) / width)
      throw std::invalid_argument("capacity: expected capacity * width of at most 2^40, got " +
                                  std::to_string(capacity) + " * " + std::to_string(width));
    return static_cast<std::size_t>(capacity * width);
  }

  std::int64_t capacity_, width_;
  std::int64_t start_ = 0, end_ = 0;
  std::int64_t slot_ = 0;  // where frame end_ goes
  std::vector<float> own_;
  float* data_;
};

}  // namespace streamtag
