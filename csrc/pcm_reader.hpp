#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

#include "sample_buffer.hpp"

namespace streamtag {

/// Wakes one thread: that of the engine.
class ArrivalSignal {
 public:
  /// Makes the present `wait`, or the next one, return.
  void notify();
  /// Waits until `notify`, or so many seconds. Returns whether it was notified.
  bool wait(double seconds);
  /// Blocks of live sources that did not fit.
  std::atomic<std::int64_t> dropped = 0;
  /// Seconds that audio may have waited for that of other streams before the last `notify`.
  std::atomic<double> gathered = 0.0;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool notified_ = false;
};

enum class PcmFormat { kS16, kF32 };

/// How the bytes of a source become samples.
struct PcmOptions {
  PcmFormat format = PcmFormat::kS16;  // little-endian; full scale is ±1 or ±32768
  std::int64_t rate = 0;               // Hz
  std::int32_t channels = 1;           // interleaved
  bool sides = false;    // keep left and right, the first two of two or three channels
  bool mixed = false;    // the last channel is the mixture of the others; else it is their mean
  float seam = 0.0f;     // a mono sample of this value is a gap of one sample; 0 for none
  double seconds = 0.0;  // of audio that may wait
};

/// What a `PcmPort` knows of its source; times in seconds of the monotonic clock.
struct Arrivals {
  std::int64_t end = 0;            // position after the newest sample
  std::int64_t samples = 0;        // so far
  double last = 0;                 // when the newest came, or until when its pace held it up
  double first = 0;                // when the first ones came
  std::int64_t first_samples = 0;  // that came then
  double pause = 0;                // the longest between two arrivals
  double least_lag = 0;            // smallest of time · rate - position, since it was asked last
  bool ended = false, closed = false;
  int error = 0;  // errno
};

class PcmReader;

/// One connection: the bytes of a file descriptor, as samples for the engine.
///
/// Until `place` it counts positions from 0, and reading waits where the buffer is full. Afterwards
/// the source is live: it is read no faster than its pace, and what does not fit is left out.
class PcmPort : public std::enable_shared_from_this<PcmPort> {
 public:
  /// The descriptor belongs to the caller, who closes it after `close` or after the last use.
  PcmPort(int descriptor, const PcmOptions& options, PcmReader& reader);
  ~PcmPort();
  PcmPort(const PcmPort&) = delete;
  PcmPort& operator=(const PcmPort&) = delete;

  const std::shared_ptr<SampleBuffer>& buffer() const { return buffer_; }
  /// Waits for the first audio, a full buffer, the end, `close`, `wake`, or so many seconds.
  Arrivals wait(double seconds);
  /// Makes a `wait` return.
  void wake();
  /// Moves what came and what will come to position `start`; it is read at its pace from now on.
  void place(std::int64_t start, std::shared_ptr<ArrivalSignal> signal);
  /// The audio is to be at sample 0 at `begun`; this connection began at `connected`.
  void set_pace(double begun, double connected);
  /// What comes next is so many samples later.
  void skip(std::int64_t count);
  /// Whether left and right mean something.
  void set_sides(bool wanted);
  /// Ends it. No read is under way afterwards.
  void close();

 private:
  friend class PcmReader;
  enum class Next { kRead, kPause, kEnd };

  Next read(double now, std::vector<char>& bytes, double* resume);
  /// Bytes of the samples of all channels.
  std::int64_t frame_size() const {
    return (options_.format == PcmFormat::kS16 ? 2 : 4) * options_.channels;
  }
  bool has_news() const;
  double seconds_ahead(double now) const;
  void take(const char* bytes, std::size_t count, double now);
  std::shared_ptr<ArrivalSignal> signal() const;
  bool has_seam(const float* frames, std::int64_t count) const;
  void append(const float* frames, std::int64_t count);
  void append_run(const float* frames, std::int64_t count, bool fits);
  void note_arrival(double now);
  void end(int error);

  const PcmOptions options_;
  const int descriptor_;
  PcmReader& reader_;
  std::shared_ptr<SampleBuffer> buffer_;
  std::int64_t id_ = 0;
  std::mutex reading_;  // held during a read

  mutable std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  Arrivals arrivals_;
  bool woken_ = false, placed_ = false, sides_, first_told_ = false;
  double begun_ = 0, connected_ = 0;
  std::shared_ptr<ArrivalSignal> signal_;

  std::vector<char> rest_;  // bytes of a frame that is not whole; the reader's alone
  std::vector<float> frames_, mono_, both_;
};

/// One thread that reads all ports.
class PcmReader {
 public:
  PcmReader();
  ~PcmReader();
  PcmReader(const PcmReader&) = delete;
  PcmReader& operator=(const PcmReader&) = delete;

  /// Throws std::system_error where the descriptor cannot be waited for.
  std::shared_ptr<PcmPort> open(int descriptor, const PcmOptions& options);

 private:
  friend class PcmPort;

  void run();
  void round(std::vector<char>& bytes);
  void serve(const std::shared_ptr<PcmPort>& port, double now, std::vector<char>& bytes);
  void resume(double now);
  std::int32_t milliseconds_to_wait(double now);
  void watch(const PcmPort& port);
  void forget(const PcmPort& port);
  void wake();

  int epoll_, wake_;
  std::atomic<bool> stopped_ = false;
  std::mutex mutex_;  // of what follows
  std::unordered_map<std::int64_t, std::weak_ptr<PcmPort>> ports_;
  std::unordered_map<std::int64_t, double> paused_;  // until when
  std::int64_t next_id_ = 1;
  std::thread thread_;
};

}  // namespace streamtag
