#include "channels.hpp"

#include <algorithm>

namespace streamtag {

ChannelMeter::ChannelMeter(const ChannelOptions& options, std::int64_t start)
    : options_(options),
      cell_(2 * static_cast<std::size_t>(std::max<std::int64_t>(1, options.cell))) {
  restart(start);
}

void ChannelMeter::push(std::int64_t start, const float* sides, std::int64_t count,
                        std::vector<ChannelChange>& changes) {
  if (start != end_) restart(start);
  end_ = start + count;
  const auto size = static_cast<std::int64_t>(cell_.size() / 2);
  while (count > 0) {
    const std::int64_t n = std::min(count, size - filled_);
    std::copy_n(sides, 2 * n, cell_.begin() + 2 * filled_);
    filled_ += n;
    sides += 2 * n;
    count -= n;
    if (filled_ == size) measure(changes);
  }
}

void ChannelMeter::push_mono(std::int64_t start, std::vector<ChannelChange>& changes) {
  restart(start);
  if (state_ == ChannelState::kStereo) return;
  state_ = next_ = ChannelState::kStereo;
  changes.push_back({state_, start, start});
}

/// Starts again after missing audio. The state stays until the audio shows another.
void ChannelMeter::restart(std::int64_t start) {
  filled_ = lasted_ = 0;
  at_ = end_ = since_ = start;
  next_ = state_;
}

/// Measures the cell, which is full.
void ChannelMeter::measure(std::vector<ChannelChange>& changes) {
  const auto size = static_cast<std::int64_t>(cell_.size() / 2);
  const std::int64_t start = at_, end = at_ + size;
  at_ = end;
  filled_ = 0;
  ChannelState found;
  if (!find_state(&found)) return;
  if (found == state_) {
    next_ = state_;
    return;
  }
  if (found != next_) {
    next_ = found;
    since_ = start;
    lasted_ = 0;
  }
  lasted_ += size;
  if (lasted_ < (found == ChannelState::kStereo ? options_.recovery : options_.fault)) return;
  state_ = found;
  changes.push_back({found, since_, end});
}

/// The state of the cell; false where both channels are silent.
bool ChannelMeter::find_state(ChannelState* state) const {
  const auto n = static_cast<double>(cell_.size() / 2);
  double means[2] = {0.0, 0.0};
  for (std::size_t i = 0; i < cell_.size(); i += 2) {
    means[0] += cell_[i];
    means[1] += cell_[i + 1];
  }
  double left = 0.0, right = 0.0, difference = 0.0;
  for (std::size_t i = 0; i < cell_.size(); i += 2) {  // without DC
    const double a = cell_[i] - means[0] / n, b = cell_[i + 1] - means[1] / n;
    left += a * a;
    right += b * b;
    difference += (a - b) * (a - b);
  }
  const bool no_left = left / n < options_.power, no_right = right / n < options_.power;
  if (no_left && no_right) return false;
  *state = no_left                                             ? ChannelState::kLeftSilent
           : no_right                                          ? ChannelState::kRightSilent
           : difference < options_.mono_ratio * (left + right) ? ChannelState::kMono
                                                               : ChannelState::kStereo;
  return true;
}

}  // namespace streamtag
