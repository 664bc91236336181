#pragma once

#include <cstdint>
#include <vector>

namespace streamtag {

enum class ChannelState { kStereo, kLeftSilent, kRightSilent, kMono };

/// The channels are in another state from sample `at` on, known at `decided`.
struct ChannelChange {
  ChannelState state;
  std::int64_t at;
  std::int64_t decided;
};

/// What counts as a fault; times in samples.
struct ChannelOptions {
  std::int64_t cell;
  double power;       // a channel with a mean square below this is silent
  double mono_ratio;  // both are the same if their difference, against both, is below this
  std::int64_t fault;
  std::int64_t recovery;
};

/// Measures the two channels of one stream. streamtag/audio/stereo.py explains it.
class ChannelMeter {
 public:
  ChannelMeter(const ChannelOptions& options, std::int64_t start);

  /// Measures samples from `start` on: left and right, interleaved.
  void push(std::int64_t start, const float* sides, std::int64_t count,
            std::vector<ChannelChange>& changes);
  /// The source has one channel from sample `start` on, so that there is no fault.
  void push_mono(std::int64_t start, std::vector<ChannelChange>& changes);

 private:
  void restart(std::int64_t start);
  void measure(std::vector<ChannelChange>& changes);
  bool find_state(ChannelState* state) const;

  ChannelOptions options_;
  std::vector<float> cell_;  // interleaved
  ChannelState state_ = ChannelState::kStereo, next_ = ChannelState::kStereo;
  std::int64_t filled_ = 0, at_ = 0, end_ = 0;  // of the cell; of the audio
  std::int64_t since_ = 0, lasted_ = 0;         // of the state that may come next
};

}  // namespace streamtag
