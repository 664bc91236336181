#include "pcm_reader.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>
#include <string>
#include <system_error>
#include <utility>

namespace streamtag {
namespace {

constexpr std::size_t kBytes = 1 << 16;  // that are read at once
constexpr std::size_t kManyPorts = 16;   // with more than this, a round waits for more of them
constexpr double kGather = 0.04;         // seconds between two rounds with many ports
constexpr double kFullPause = 0.02;      // seconds, while a buffer is full
constexpr double kAhead = 10.0;          // seconds that audio may be ahead of the clock
constexpr double kBurst = 2.0;           // of them at once; the rest at four times its speed

double monotonic() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::chrono::duration<double> limited(double seconds) {
  return std::chrono::duration<double>(std::clamp(seconds, 0.0, 1e6));
}

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::generic_category(), what);
}

/// Bytes of interleaved samples as floats.
void decode(PcmFormat format, const char* bytes, std::size_t count, std::vector<float>& out) {
  out.resize(count);
  if (format == PcmFormat::kF32) {
    std::memcpy(out.data(), bytes, count * sizeof(float));
    return;
  }
  for (std::size_t i = 0; i < count; ++i) {
    std::int16_t x;
    std::memcpy(&x, bytes + 2 * i, sizeof x);
    out[i] = static_cast<float>(x) / 32768.0f;
  }
}

}  // namespace

void ArrivalSignal::notify() {
  {
    const std::scoped_lock lock(mutex_);
    notified_ = true;
  }
  changed_.notify_all();
}

bool ArrivalSignal::wait(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limited(seconds), [this] { return notified_; });
  return std::exchange(notified_, false);
}

PcmPort::PcmPort(int descriptor, const PcmOptions& options, PcmReader& reader)
    : options_(options),
      descriptor_(descriptor),
      reader_(reader),
      buffer_(std::make_shared<SampleBuffer>(std::max<std::int64_t>(
          1, std::llround(options.seconds * static_cast<double>(options.rate))))),
      sides_(options.sides) {
  arrivals_.least_lag = std::numeric_limits<double>::infinity();
}

PcmPort::~PcmPort() { reader_.forget(*this); }

Arrivals PcmPort::wait(double seconds) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, limited(seconds), [this] { return has_news(); });
  woken_ = false;
  first_told_ = arrivals_.samples > 0;
  Arrivals found = arrivals_;
  arrivals_.least_lag = std::numeric_limits<double>::infinity();
  return found;
}

/// Whether a `wait` returns. `mutex_` is held.
bool PcmPort::has_news() const {
  const bool first = arrivals_.samples > 0 && !first_told_;
  const bool full = !placed_ && buffer_->full();
  return first || full || woken_ || arrivals_.ended || arrivals_.closed;
}

void PcmPort::wake() {
  {
    const std::scoped_lock lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

void PcmPort::place(std::int64_t start, std::shared_ptr<ArrivalSignal> signal) {
  {
    const std::scoped_lock lock(mutex_);
    buffer_->shift(start);
    arrivals_.end += start;
    arrivals_.least_lag = std::numeric_limits<double>::infinity();
    placed_ = true;
    signal_ = signal;
  }
  signal->notify();
}

void PcmPort::set_pace(double begun, double connected) {
  const std::scoped_lock lock(mutex_);
  begun_ = begun;
  connected_ = connected;
}

void PcmPort::skip(std::int64_t count) {
  const std::scoped_lock lock(mutex_);
  arrivals_.end += count;
}

void PcmPort::set_sides(bool wanted) {
  const std::scoped_lock lock(mutex_);
  if (sides_ && !wanted && !placed_) buffer_->drop_sides();
  sides_ = wanted && options_.sides;
}

void PcmPort::close() {
  {
    const std::scoped_lock lock(mutex_);
    arrivals_.closed = true;
  }
  changed_.notify_all();
  reader_.forget(*this);
  const std::scoped_lock lock(reading_);  // waits for a read that is under way
}

/// Seconds by which the audio is further than its pace allows.
double PcmPort::seconds_ahead(double now) const {
  const double played = static_cast<double>(arrivals_.end) / static_cast<double>(options_.rate);
  const double allowed = std::min(kAhead, kBurst + 3 * (now - connected_));
  return played - (now - begun_) - allowed;
}

/// Reads what there is. `resume` is set to when to go on after a pause.
PcmPort::Next PcmPort::read(double now, std::vector<char>& bytes, double* resume) {
  const std::scoped_lock reading(reading_);
  {
    const std::scoped_lock lock(mutex_);
    if (arrivals_.closed || arrivals_.ended) return Next::kEnd;
    const double ahead = placed_ && connected_ > 0 ? seconds_ahead(now) : 0.0;
    *resume = now + std::max(ahead, kFullPause);
    if (ahead > 0) arrivals_.last = std::max(arrivals_.last, *resume);
    if (ahead > 0 || (!placed_ && buffer_->full())) return Next::kPause;
  }
  // A quarter of a second at most, so that audio that is ahead comes evenly.
  const std::int64_t most = frame_size() * std::max<std::int64_t>(256, options_.rate / 4);
  const ssize_t got =
      ::read(descriptor_, bytes.data(), std::min(bytes.size(), static_cast<std::size_t>(most)));
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return Next::kRead;
  if (got <= 0) {
    end(got < 0 ? errno : 0);
    return Next::kEnd;
  }
  take(bytes.data(), static_cast<std::size_t>(got), now);
  return Next::kRead;
}

void PcmPort::end(int error) {
  std::shared_ptr<ArrivalSignal> signal;
  {
    const std::scoped_lock lock(mutex_);
    arrivals_.ended = true;
    arrivals_.error = error;
    signal = signal_;
  }
  changed_.notify_all();
  if (signal) signal->notify();
}

/// Appends the whole frames of `rest_` and of the bytes that came.
void PcmPort::take(const char* bytes, std::size_t count, double now) {
  const auto frame = static_cast<std::size_t>(frame_size());
  if (!rest_.empty()) {
    rest_.insert(rest_.end(), bytes, bytes + count);
    bytes = rest_.data();
    count = rest_.size();
  }
  const std::size_t whole = count / frame;
  if (whole > 0)
    decode(options_.format, bytes, whole * static_cast<std::size_t>(options_.channels), frames_);
  std::vector<char> left(bytes + whole * frame, bytes + count);
  rest_.swap(left);
  if (whole == 0) return;
  const bool news = [&] {
    const std::scoped_lock lock(mutex_);
    append(frames_.data(), static_cast<std::int64_t>(whole));
    note_arrival(now);
    return has_news();
  }();
  if (news) changed_.notify_all();
}

/// Whom to notify of what was read; null before `place`.
std::shared_ptr<ArrivalSignal> PcmPort::signal() const {
  const std::scoped_lock lock(mutex_);
  return signal_;
}

/// Whether some frame is a seam. It hardly ever is, so all are compared at once.
bool PcmPort::has_seam(const float* frames, std::int64_t count) const {
  if (options_.seam == 0.0f) return false;
  const std::int64_t channels = options_.channels;
  const float seam = options_.seam;
  std::int32_t found = 0;
  if (channels == 1)
    for (std::int64_t i = 0; i < count; ++i) found |= frames[i] == seam;
  else
    for (std::int64_t i = 0; i < count; ++i) found |= frames[(i + 1) * channels - 1] == seam;
  return found != 0;
}

/// Appends frames, cut at seams. `mutex_` is held.
void PcmPort::append(const float* frames, std::int64_t count) {
  const std::int64_t channels = options_.channels;
  const bool fits = !buffer_->full();
  if (!fits && signal_) ++signal_->dropped;
  std::int64_t begin = 0;
  const std::int64_t searched = has_seam(frames, count) ? count : 0;
  for (std::int64_t i = 0; i < searched; ++i) {
    if (frames[i * channels + channels - 1] != options_.seam) continue;
    append_run(frames + begin * channels, i - begin, fits);
    if (arrivals_.samples > 0) ++arrivals_.end;
    begin = i + 1;
  }
  append_run(frames + begin * channels, count - begin, fits);
}

/// Appends frames as mono samples, and left and right where they are wanted. Those that do not fit
/// are left out.
void PcmPort::append_run(const float* frames, std::int64_t count, bool fits) {
  if (count == 0) return;
  const std::int64_t channels = options_.channels;
  const float* mono = frames;
  if (channels > 1) {
    mono_.resize(static_cast<std::size_t>(count));
    mono = mono_.data();
  }
  if (channels > 1 && options_.mixed) {
    for (std::int64_t i = 0; i < count; ++i)
      mono_[static_cast<std::size_t>(i)] = frames[i * channels + channels - 1];
  } else if (channels > 1) {
    const auto parts = static_cast<float>(channels);
    for (std::int64_t i = 0; i < count; ++i) {
      float sum = frames[i * channels];
      for (std::int64_t c = 1; c < channels; ++c) sum += frames[i * channels + c];
      mono_[static_cast<std::size_t>(i)] = sum / parts;
    }
  }
  both_.clear();
  for (std::int64_t i = 0; sides_ && i < count; ++i)
    both_.insert(both_.end(), {frames[i * channels], frames[i * channels + 1]});
  if (fits) buffer_->append(arrivals_.end, mono, sides_ ? both_.data() : nullptr, count);
  arrivals_.end += count;
  arrivals_.samples += count;
}

/// Notes when frames came. `mutex_` is held.
void PcmPort::note_arrival(double now) {
  if (arrivals_.samples == 0) return;  // nothing but a seam
  if (arrivals_.first_samples == 0) {
    arrivals_.first = now;
    arrivals_.first_samples = arrivals_.samples;
  }
  if (arrivals_.last > 0) arrivals_.pause = std::max(arrivals_.pause, now - arrivals_.last);
  arrivals_.last = now;
  const double lag = now * static_cast<double>(options_.rate) - static_cast<double>(arrivals_.end);
  arrivals_.least_lag = std::min(arrivals_.least_lag, lag);
}

PcmReader::PcmReader()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (epoll_ < 0 || wake_ < 0) fail("pcm reader");
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) < 0) fail("pcm reader");
  thread_ = std::thread([this] { run(); });
}

PcmReader::~PcmReader() {
  stopped_ = true;
  wake();
  thread_.join();
  ::close(wake_);
  ::close(epoll_);
}

std::shared_ptr<PcmPort> PcmReader::open(int descriptor, const PcmOptions& options) {
  auto port = std::make_shared<PcmPort>(descriptor, options, *this);
  const std::scoped_lock lock(mutex_);
  port->id_ = next_id_++;
  ports_[port->id_] = port;
  watch(*port);
  return port;
}

void PcmReader::wake() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof one);
}

/// Reads the port whenever it has something. `mutex_` is held.
void PcmReader::watch(const PcmPort& port) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = static_cast<std::uint64_t>(port.id_);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, port.descriptor_, &event) < 0 && errno != EEXIST)
    fail("pcm port");
}

void PcmReader::forget(const PcmPort& port) {
  const std::scoped_lock lock(mutex_);
  if (ports_.erase(port.id_) == 0) return;
  if (paused_.erase(port.id_) == 0) epoll_ctl(epoll_, EPOLL_CTL_DEL, port.descriptor_, nullptr);
}

void PcmReader::run() {
  std::vector<char> bytes(kBytes);
  while (!stopped_) round(bytes);
}

void PcmReader::round(std::vector<char>& bytes) {
  epoll_event events[256];
  std::set<std::shared_ptr<ArrivalSignal>> signals;
  const int n = epoll_wait(epoll_, events, 256, milliseconds_to_wait(monotonic()));
  const double began = monotonic();
  for (int i = 0; i < n; ++i) {
    const auto id = static_cast<std::int64_t>(events[i].data.u64);
    if (id == 0) {
      std::uint64_t count;
      [[maybe_unused]] const ssize_t got = ::read(wake_, &count, sizeof count);
      continue;
    }
    std::shared_ptr<PcmPort> port;
    {
      const std::scoped_lock lock(mutex_);
      if (const auto found = ports_.find(id); found != ports_.end()) port = found->second.lock();
    }
    if (!port) continue;
    serve(port, began, bytes);
    if (auto signal = port->signal()) signals.insert(std::move(signal));
  }
  const bool many = [this] {
    const std::scoped_lock lock(mutex_);
    return ports_.size() > kManyPorts;
  }();
  for (const auto& signal : signals) {  // once a round
    signal->gathered = many ? kGather : 0.0;
    signal->notify();
  }
  resume(began);
  const double left = began + kGather - monotonic();
  if (many && left > 0 && !stopped_) std::this_thread::sleep_for(limited(left));
}

void PcmReader::serve(const std::shared_ptr<PcmPort>& port, double now, std::vector<char>& bytes) {
  double resume = now;
  const PcmPort::Next next = port->read(now, bytes, &resume);
  if (next == PcmPort::Next::kRead) return;
  const std::scoped_lock lock(mutex_);
  if (!ports_.contains(port->id_)) return;
  epoll_ctl(epoll_, EPOLL_CTL_DEL, port->descriptor_, nullptr);
  if (next == PcmPort::Next::kPause)
    paused_[port->id_] = resume;
  else
    ports_.erase(port->id_);
}

/// Watches those again whose pause is over.
void PcmReader::resume(double now) {
  std::vector<std::shared_ptr<PcmPort>> used;  // so that none is destroyed under the lock
  const std::scoped_lock lock(mutex_);
  for (auto one = paused_.begin(); one != paused_.end();) {
    if (one->second > now) {
      ++one;
      continue;
    }
    if (const auto found = ports_.find(one->first); found != ports_.end())
      if (auto port = found->second.lock()) {
        watch(*port);
        used.push_back(std::move(port));
      }
    one = paused_.erase(one);
  }
}

std::int32_t PcmReader::milliseconds_to_wait(double now) {
  const std::scoped_lock lock(mutex_);
  double until = now + 3600;
  for (const auto& [id, at] : paused_) until = std::min(until, at);
  return static_cast<std::int32_t>(std::ceil(1000 * std::max(0.0, until - now)));
}

}  // namespace streamtag
