#include "audio_ring.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace streamtag {
namespace {

constexpr std::int64_t kMostSamples = std::int64_t{1} << 32;

std::int64_t checked(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    throw std::invalid_argument(std::string(name) + ": expected " + std::to_string(least) + " to " +
                                std::to_string(most) + ", got " + std::to_string(value));
  return value;
}

std::int16_t quantised(float sample) {
  return static_cast<std::int16_t>(std::lrintf(std::clamp(sample * 32768.0f, -32768.0f, 32767.0f)));
}

}  // namespace

AudioRing::AudioRing(std::int64_t rate, std::int64_t capacity, std::int64_t start)
    : rate_(checked("rate", rate, 1, 10'000'000)),
      capacity_(checked("capacity", capacity, 1, kMostSamples)),
      start_(checked("start", start, 0, std::int64_t{1} << 62)),
      end_(start),
      samples_(new std::int16_t[static_cast<std::size_t>(capacity)]) {}

std::int64_t AudioRing::begin() const {
  const std::scoped_lock lock(mutex_);
  return begin_unlocked();
}

std::int64_t AudioRing::end() const {
  const std::scoped_lock lock(mutex_);
  return end_;
}

std::int64_t AudioRing::begin_unlocked() const { return std::max(start_, end_ - capacity_); }

void AudioRing::append(const float* samples, std::int64_t count) {
  const std::scoped_lock lock(mutex_);
  const std::int64_t skipped = std::max<std::int64_t>(0, count - capacity_);
  std::int64_t slot = (end_ + skipped) % capacity_;
  for (std::int64_t i = skipped; i < count; ++i) {
    samples_[static_cast<std::size_t>(slot)] = quantised(samples[i]);
    if (++slot == capacity_) slot = 0;
  }
  end_ += count;
}

void AudioRing::skip_to(std::int64_t position) {
  const std::scoped_lock lock(mutex_);
  if (position - end_ >= capacity_) {  // nothing is left
    start_ = end_ = position;
    return;
  }
  for (; end_ < position; ++end_) samples_[static_cast<std::size_t>(end_ % capacity_)] = 0;
}

std::int64_t AudioRing::read(std::int64_t first, std::int64_t most,
                             std::vector<std::int16_t>& out) const {
  const std::scoped_lock lock(mutex_);
  first = std::clamp(first, begin_unlocked(), end_);
  const std::int64_t count = std::clamp<std::int64_t>(most, 0, end_ - first);
  out.resize(static_cast<std::size_t>(count));
  const std::int64_t slot = first % capacity_;
  const std::int64_t run = std::min(count, capacity_ - slot);
  std::copy_n(samples_.get() + slot, run, out.begin());
  std::copy_n(samples_.get(), count - run, out.begin() + run);
  return first;
}

}  // namespace streamtag
