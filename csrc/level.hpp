#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "kernel.hpp"
#include "loudness.hpp"

namespace streamtag {

enum class LevelKind { kSilent, kSound, kClipped };

/// A change of level, known when the samples up to `decided` have been measured.
struct LevelChange {
  LevelKind kind;
  std::int64_t at;
  std::int64_t decided;
  std::int64_t since = 0;    // of a sound: where the silence before it started
  std::int64_t samples = 0;  // of clipping: how many
};

/// The level of half a second or so, for a display.
struct LevelReading {
  std::int64_t end;    // one past its last sample
  double mean_square;  // without DC
  float peak;          // the largest absolute value
  double weighted;     // the mean square of its last four cells with K-weighting, if wanted
};

/// A silence, from the time at which it is known.
struct Silence {
  std::int64_t at;                   // first silent sample
  std::int64_t known;                // one past the last sample that was needed to know it
  std::optional<std::int64_t> back;  // the same for its end
};

/// What counts as silence and as clipping; times in samples, 0 for never.
struct LevelOptions {
  std::int64_t rate;
  std::int64_t cell;   // samples that are measured together
  double power;        // a mean square below this is silence
  std::int64_t lag;    // a silence is reported so much later
  std::int64_t quiet;  // this long before it is a silence
  std::int64_t loud;   // this long to end one
  std::int64_t clipping_interval;
};

/// Counts clipped samples and reports them at most once per interval.
class ClippingCounter {
 public:
  explicit ClippingCounter(std::int64_t interval) : interval_(interval) {}

  void interrupt() { run_ = 0; }
  /// Counts those of a cell that starts at sample `start` and whose largest sample is `peak`.
  void count(const std::vector<float>& cell, float peak, std::int64_t start,
             std::vector<LevelChange>& changes);
  /// Reports what was counted since the last report; `decided` is by default where it began.
  void report(std::optional<std::int64_t> decided, std::vector<LevelChange>& changes);

 private:
  void end_run(std::int64_t first, std::int64_t end, std::int64_t start);

  std::int64_t interval_;
  std::int64_t run_ = 0;  // samples at full scale up to the end of the last cell
  std::int64_t samples_ = 0, at_ = 0, next_ = 0;
};

/// The level of one stream, measured in cells. streamtag/audio/level.py explains it.
class LevelMeter {
 public:
  LevelMeter(const LevelOptions& options, std::int64_t start);

  /// Starts again after missing audio. A silence that was reported goes on.
  void restart(std::int64_t start);
  /// Measures finite samples up to the first change; returns how many.
  std::int64_t scan(const float* samples, std::int64_t count, std::vector<LevelChange>& changes);
  /// The silence in which a window ends that has `end` one past its last sample.
  std::optional<Silence> silence_at(std::int64_t end) const;
  /// Reports the present silence, if it has not been reported yet.
  void report_silence(std::vector<LevelChange>& changes);
  /// Reports what is left when the stream ends, or is lost, at sample `at`.
  void close(std::int64_t at, std::vector<LevelChange>& changes);
  /// From now on there is a reading for every `cells` cells that follow each other; 0 for none.
  void set_readings(std::int64_t cells, bool weighted);
  /// The readings since the last call.
  std::vector<LevelReading> take_readings();

 private:
  void begin_reading();
  void read(const Measured& found, std::int64_t end);
  void measure(std::vector<LevelChange>& changes);
  void quiet(std::int64_t start, std::int64_t end);
  void loud(std::int64_t start, std::int64_t end, std::vector<LevelChange>& changes);
  void end_silence(std::int64_t at, std::int64_t decided, std::vector<LevelChange>& changes);

  LevelOptions options_;
  const Kernel& kernel_;
  std::vector<float> cell_;
  std::int64_t filled_ = 0, at_ = 0;  // samples in the cell, and its first one
  std::deque<Silence> silences_;      // the newest
  bool silent_ = false;
  bool unreported_ = false;                               // of the present silence
  std::optional<std::int64_t> quiet_since_, loud_since_;  // what may become a silence, or end one
  ClippingCounter clipping_;
  std::int64_t cells_ = 0, read_ = 0;  // of a reading; so far of the next one
  double sum_ = 0.0, squares_ = 0.0;
  float peak_ = 0.0f;
  std::optional<KWeighting> weighting_;
  double weighted_ = 0.0;
  std::vector<LevelReading> readings_;
};

}  // namespace streamtag
