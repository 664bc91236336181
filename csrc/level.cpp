#include "level.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "plan.hpp"

namespace streamtag {
namespace {

constexpr float kFullScale = 1.0f - 1.0f / 16384;  // the largest 16-bit value is 1 - 2^-15
constexpr std::int64_t kFlat = 3;  // so many in a row are clipping; fewer are just a loud peak
constexpr std::size_t kSilences = 4;
constexpr std::int64_t kMomentary = 4;  // cells: 400 ms, EBU Tech 3341, section 2.2

}  // namespace

void ClippingCounter::count(const std::vector<float>& cell, float peak, std::int64_t start,
                            std::vector<LevelChange>& changes) {
  const auto size = static_cast<std::int64_t>(cell.size());
  if (interval_ > 0 && peak >= kFullScale) {
    std::int64_t first = -run_;  // of the present run; one that began in the last cell goes on
    for (std::int64_t i = 0; i < size; ++i) {
      if (std::fabs(cell[static_cast<std::size_t>(i)]) >= kFullScale) continue;
      end_run(first, i, start);
      first = i + 1;
    }
    end_run(first, size, start);
    run_ = size - first;
  } else {
    run_ = 0;
  }
  if (samples_ == 0 || start + size < next_) return;
  next_ = start + size + interval_;
  report(start + size, changes);
}

/// Counts the run [first, end) of a cell, less what was counted at the end of the last cell.
void ClippingCounter::end_run(std::int64_t first, std::int64_t end, std::int64_t start) {
  if (end - first < kFlat || end <= 0) return;
  if (samples_ == 0) at_ = start + first;
  samples_ += end - first - (first < 0 && -first >= kFlat ? -first : 0);
}

void ClippingCounter::report(std::optional<std::int64_t> decided,
                             std::vector<LevelChange>& changes) {
  if (samples_ == 0) return;
  changes.push_back({LevelKind::kClipped, at_, decided.value_or(at_), 0, samples_});
  samples_ = 0;
}

LevelMeter::LevelMeter(const LevelOptions& options, std::int64_t start)
    : options_(options),
      kernel_(kernel_for("")),
      cell_(static_cast<std::size_t>(std::max<std::int64_t>(1, options.cell))),
      clipping_(options.clipping_interval) {
  restart(start);
}

void LevelMeter::restart(std::int64_t start) {
  filled_ = 0;
  at_ = start;
  quiet_since_.reset();
  loud_since_.reset();
  clipping_.interrupt();
  set_readings(cells_, weighting_.has_value());
}

void LevelMeter::set_readings(std::int64_t cells, bool weighted) {
  cells_ = cells;
  weighting_.reset();
  if (weighted) weighting_.emplace(options_.rate);
  begin_reading();
}

void LevelMeter::begin_reading() {
  read_ = 0;
  sum_ = squares_ = weighted_ = 0.0;
  peak_ = 0.0f;
}

std::vector<LevelReading> LevelMeter::take_readings() { return std::exchange(readings_, {}); }

std::int64_t LevelMeter::scan(const float* samples, std::int64_t count,
                              std::vector<LevelChange>& changes) {
  const auto size = static_cast<std::int64_t>(cell_.size());
  const std::size_t before = changes.size();
  for (std::int64_t taken = 0; taken < count;) {
    const std::int64_t n = std::min(count - taken, size - filled_);
    std::copy_n(samples + taken, n, cell_.begin() + filled_);
    filled_ += n;
    taken += n;
    if (filled_ < size) continue;
    measure(changes);
    if (changes.size() > before) return taken;
  }
  return count;
}

std::optional<Silence> LevelMeter::silence_at(std::int64_t end) const {
  for (const Silence& silence : silences_)
    if (silence.known < end && (!silence.back || end <= *silence.back)) return silence;
  return std::nullopt;
}

void LevelMeter::report_silence(std::vector<LevelChange>& changes) {
  if (!unreported_) return;
  unreported_ = false;
  changes.push_back({LevelKind::kSilent, silences_.back().at, silences_.back().known});
}

void LevelMeter::close(std::int64_t at, std::vector<LevelChange>& changes) {
  report_silence(changes);
  clipping_.report(std::nullopt, changes);
  if (silent_) end_silence(at, at, changes);
}

/// Measures the cell, which is full.
void LevelMeter::measure(std::vector<LevelChange>& changes) {
  const auto size = static_cast<std::int64_t>(cell_.size());
  const std::int64_t start = at_, end = at_ + size;
  at_ = end;
  filled_ = 0;
  const Measured found = kernel_.measure(cell_.data(), static_cast<std::int32_t>(size));
  if (cells_ > 0) read(found, end);
  std::vector<LevelChange> later;
  clipping_.count(cell_, found.peak, start, later);
  if (options_.quiet > 0) {
    const double mean = found.sum / static_cast<double>(size);
    // Without DC. A constant leaves a rounding error, which may be negative.
    if (found.squares / static_cast<double>(size) - mean * mean < options_.power) {
      loud_since_.reset();
      quiet(start, end);
    } else {
      loud(start, end, later);
    }
    if (unreported_ && end - silences_.back().known >= options_.lag) report_silence(changes);
  }
  changes.insert(changes.end(), later.begin(), later.end());
}

/// Adds a cell to the next reading.
void LevelMeter::read(const Measured& found, std::int64_t end) {
  sum_ += found.sum;
  squares_ += found.squares;
  peak_ = std::max(peak_, found.peak);
  if (weighting_) {
    const double weighted = weighting_->push(cell_.data(), static_cast<std::int64_t>(cell_.size()));
    if (read_ >= cells_ - kMomentary) weighted_ += weighted;
  }
  if (++read_ < cells_) return;
  const auto size = static_cast<double>(cell_.size());
  const double count = size * static_cast<double>(cells_), mean = sum_ / count;
  const auto momentary = static_cast<double>(std::min(kMomentary, cells_));
  readings_.push_back(
      {end, std::max(0.0, squares_ / count - mean * mean), peak_, weighted_ / (size * momentary)});
  begin_reading();
}

void LevelMeter::quiet(std::int64_t start, std::int64_t end) {
  if (!quiet_since_) quiet_since_ = start;
  if (silent_ || end - *quiet_since_ < options_.quiet) return;
  silent_ = unreported_ = true;
  silences_.push_back({*quiet_since_, end, std::nullopt});
  if (silences_.size() > kSilences) silences_.pop_front();
}

void LevelMeter::loud(std::int64_t start, std::int64_t end, std::vector<LevelChange>& changes) {
  if (!loud_since_) loud_since_ = start;
  if (end - *loud_since_ < options_.loud) return;
  quiet_since_.reset();
  if (!silent_) return;
  report_silence(changes);
  end_silence(*loud_since_, end, changes);
}

void LevelMeter::end_silence(std::int64_t at, std::int64_t decided,
                             std::vector<LevelChange>& changes) {
  Silence& silence = silences_.back();
  silence.back = decided;
  silent_ = false;
  quiet_since_.reset();
  changes.push_back({LevelKind::kSound, at, decided, silence.at});
}

}  // namespace streamtag
