#include "sample_buffer.hpp"

#include <algorithm>
#include <cstddef>

namespace streamtag {
namespace {

constexpr std::size_t kKept = 16384;  // floats that an empty buffer keeps

/// Removes what is before `first`, when that is more than what is after it.
void discard(std::vector<float>& values, std::size_t* first) {
  if (*first < values.size() - *first || *first == 0) return;
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(*first));
  *first = 0;
  if (values.empty() && values.capacity() > kKept) values.shrink_to_fit();
}

void copy(const std::vector<float>& from, std::size_t first, std::int64_t count,
          std::vector<float>& to) {
  const auto begin = from.begin() + static_cast<std::ptrdiff_t>(first);
  to.assign(begin, begin + static_cast<std::ptrdiff_t>(count));
}

}  // namespace

void SampleBuffer::append(std::int64_t start, const float* samples, const float* sides,
                          std::int64_t count) {
  const std::scoped_lock lock(mutex_);
  samples_.insert(samples_.end(), samples, samples + count);
  if (sides != nullptr) sides_.insert(sides_.end(), sides, sides + 2 * count);
  const bool has_sides = sides != nullptr;
  if (!runs_.empty() && runs_.back().start + runs_.back().count == start &&
      runs_.back().has_sides == has_sides)
    runs_.back().count += count;
  else
    runs_.push_back({start, count, has_sides});
}

std::int64_t SampleBuffer::waiting() const {
  const std::scoped_lock lock(mutex_);
  return static_cast<std::int64_t>(samples_.size() - first_);
}

bool SampleBuffer::any() const {
  const std::scoped_lock lock(mutex_);
  return !runs_.empty();
}

SampleBuffer::Front SampleBuffer::peek(std::int64_t most, std::vector<float>& samples,
                                       std::vector<float>& sides) const {
  const std::scoped_lock lock(mutex_);
  if (runs_.empty()) return {0, 0, false, false};
  Front found = runs_.front();
  found.count = std::min(found.count, most);
  copy(samples_, first_, found.count, samples);
  copy(sides_, first_side_, found.has_sides ? 2 * found.count : 0, sides);
  return found;
}

void SampleBuffer::shift(std::int64_t by) {
  const std::scoped_lock lock(mutex_);
  for (Front& run : runs_) run.start += by;
}

void SampleBuffer::drop_sides() {
  const std::scoped_lock lock(mutex_);
  for (Front& run : runs_) run.has_sides = false;
  sides_.clear();
  first_side_ = 0;
}

void SampleBuffer::pop(std::int64_t count) {
  const std::scoped_lock lock(mutex_);
  if (runs_.empty()) return;
  Front& run = runs_.front();
  run.start += count;
  run.count -= count;
  first_ += static_cast<std::size_t>(count);
  first_side_ += run.has_sides ? 2 * static_cast<std::size_t>(count) : 0;
  if (run.count == 0) runs_.pop_front();
  discard(samples_, &first_);
  discard(sides_, &first_side_);
}

}  // namespace streamtag
