#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "audio_ring.hpp"
#include "channels.hpp"
#include "extractor.hpp"
#include "level.hpp"
#include "resampler.hpp"
#include "ring.hpp"
#include "sample_buffer.hpp"

namespace streamtag {

/// What happened to a stream while it went on.
struct Progress {
  std::int64_t samples = 0;         // that were used
  std::int64_t frames = 0;          // that all its rings have gained
  std::vector<std::int64_t> due;    // front ends that have the frame they waited for
  std::vector<LevelChange> levels;  // where it stopped
  std::vector<ChannelChange> channels;
  std::optional<std::int64_t> gap;  // where the audio goes on after missing samples
  bool more = false;                // some of what it may use is left
};

/// The audio of one stream: what waits, its level and channels, its resamplers and front ends.
///
/// One thread at a time may use it. Another one may append to its buffer.
class StreamAudio {
 public:
  /// The stream begins with sample `start`; `channels` may be null.
  StreamAudio(std::int64_t rate, std::int64_t start, std::shared_ptr<LevelMeter> level,
              std::shared_ptr<ChannelMeter> channels);

  std::int64_t rate() const { return rate_; }
  /// One past the last sample that was used.
  std::int64_t end() const { return end_; }
  /// Samples so far that were NaN or infinite and counted as 0.
  std::int64_t nonfinite() const { return nonfinite_; }
  const std::shared_ptr<SampleBuffer>& buffer() const { return buffer_; }
  void set_buffer(std::shared_ptr<SampleBuffer> buffer) { buffer_ = std::move(buffer); }

  /// Adds a front end from here on; those that begin together share their resampler.
  ///
  /// It gets at most `piece` samples at once. Returns its number.
  std::int64_t add(std::shared_ptr<Extractor> extractor, std::shared_ptr<FrameRing> ring,
                   std::int64_t piece);
  void remove(std::int64_t number);
  /// Keeps the audio from here on in a ring, at the ring's rate.
  void keep(std::shared_ptr<AudioRing> ring);
  /// A front end is named in `Progress::due` as soon as its ring has this frame.
  void set_due(std::int64_t number, std::int64_t n_frames);

  /// Allows the use of what waits, up to so many seconds. False if nothing waits.
  bool allow(double seconds);
  std::int64_t allowed() const { return allowed_; }
  /// Whether more was waiting than `allow` has allowed.
  bool has_rest() const { return rest_; }
  /// Goes on until the audio allowed is used, the level changes, a front end has got its piece, or
  /// samples are missing. The rings hold the new frames after `batch.flush()`.
  Progress advance(Batch& batch);
  /// Gives the front ends what the resamplers hold back.
  Progress flush(Batch& batch);
  /// Restarts at sample `start`, after a gap. The caller restarts the front ends.
  void restart(std::int64_t start);

 private:
  struct FrontEnd {
    std::int64_t number;
    std::shared_ptr<Extractor> extractor;
    std::shared_ptr<FrameRing> ring;
    std::int64_t piece;
    std::int64_t due = 0;
  };
  /// Front ends, and perhaps a ring, that get the same samples.
  struct Input {
    std::int64_t rate, began;
    std::unique_ptr<Resampler> resampler;  // null for the rate of the stream
    std::vector<FrontEnd> front_ends;
    std::shared_ptr<AudioRing> kept = nullptr;  // gets the samples, too
  };

  Input& input_of(std::int64_t rate);
  std::int64_t most_at_once() const;
  std::int64_t clean_and_scan(std::vector<float>& samples, Progress& progress);
  void use(const float* samples, std::int64_t count, Batch& batch, Progress& progress);
  static void extract(Input& input, const float* samples, std::int64_t count, Batch& batch,
                      Progress& progress);

  const Kernel& kernel_;
  std::int64_t rate_, end_;
  std::int64_t nonfinite_ = 0, allowed_ = 0, next_number_ = 0;
  bool rest_ = false;
  std::shared_ptr<LevelMeter> level_;
  std::shared_ptr<ChannelMeter> channels_;
  std::shared_ptr<SampleBuffer> buffer_;
  std::vector<Input> inputs_;
};

}  // namespace streamtag
