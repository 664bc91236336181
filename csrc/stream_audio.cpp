#include "stream_audio.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace streamtag {
namespace {

constexpr std::int64_t kLongest = 1 << 20;  // samples at once

}  // namespace

StreamAudio::StreamAudio(std::int64_t rate, std::int64_t start, std::shared_ptr<LevelMeter> level,
                         std::shared_ptr<ChannelMeter> channels)
    : kernel_(kernel_for("")),
      rate_(rate),
      end_(start),
      level_(std::move(level)),
      channels_(std::move(channels)),
      buffer_(std::make_shared<SampleBuffer>(0)) {}

std::int64_t StreamAudio::add(std::shared_ptr<Extractor> extractor, std::shared_ptr<FrameRing> ring,
                              std::int64_t piece) {
  Input& input = input_of(extractor->spec().sample_rate);
  input.front_ends.push_back({next_number_, std::move(extractor), std::move(ring), piece});
  return next_number_++;
}

void StreamAudio::keep(std::shared_ptr<AudioRing> ring) {
  input_of(ring->rate()).kept = std::move(ring);
}

/// The samples at a rate from here on; those that want them together share the resampler.
StreamAudio::Input& StreamAudio::input_of(std::int64_t rate) {
  const auto found = std::find_if(inputs_.begin(), inputs_.end(), [&](const Input& one) {
    return one.rate == rate && one.began == end_;
  });
  if (found != inputs_.end()) return *found;
  auto resampler = rate == rate_ ? nullptr : std::make_unique<Resampler>(rate_, rate);
  inputs_.push_back({rate, end_, std::move(resampler), {}});
  return inputs_.back();
}

void StreamAudio::remove(std::int64_t number) {
  for (Input& input : inputs_)
    std::erase_if(input.front_ends, [&](const FrontEnd& one) { return one.number == number; });
  std::erase_if(inputs_,
                [](const Input& input) { return input.front_ends.empty() && !input.kept; });
}

void StreamAudio::set_due(std::int64_t number, std::int64_t n_frames) {
  for (Input& input : inputs_)
    for (FrontEnd& one : input.front_ends)
      if (one.number == number) one.due = n_frames;
}

bool StreamAudio::allow(double seconds) {
  const auto most = static_cast<double>(std::numeric_limits<std::int64_t>::max() / 2);
  const double samples = std::ceil(seconds * static_cast<double>(rate_));
  const std::int64_t waiting = buffer_->waiting();
  allowed_ = std::min(waiting, static_cast<std::int64_t>(std::min(samples, most)));
  rest_ = allowed_ < waiting;
  return buffer_->any();
}

/// Samples that make no front end exceed its piece.
std::int64_t StreamAudio::most_at_once() const {
  std::int64_t most = std::min(allowed_, kLongest);
  for (const Input& input : inputs_)
    for (const FrontEnd& one : input.front_ends)
      most = std::min(most, input.resampler ? (one.piece - 1) * rate_ / input.rate : one.piece);
  return std::max<std::int64_t>(1, most);
}

Progress StreamAudio::advance(Batch& batch) {
  static thread_local std::vector<float> samples, sides;
  Progress progress;
  const auto front = buffer_->peek(allowed_ > 0 ? most_at_once() : 0, samples, sides);
  if (!front.exists) return progress;
  if (front.start > end_) {
    progress.gap = front.start;
    progress.more = true;
    return progress;
  }
  const std::int64_t taken = clean_and_scan(samples, progress);
  if (channels_ && front.has_sides)
    channels_->push(end_, sides.data(), taken, progress.channels);
  else if (channels_)
    channels_->push_mono(end_, progress.channels);
  use(samples.data(), taken, batch, progress);
  buffer_->pop(taken);
  allowed_ -= taken;
  progress.more = allowed_ > 0;
  return progress;
}

/// Replaces what is not finite by 0, before a filter smears it, and measures the level up to its
/// first change. Returns the number of samples up to there.
std::int64_t StreamAudio::clean_and_scan(std::vector<float>& samples, Progress& progress) {
  static thread_local std::vector<float> clean;
  clean.resize(samples.size());
  const std::int32_t bad = kernel_.clean(samples.data(), static_cast<std::int32_t>(samples.size()),
                                         std::numeric_limits<float>::max(), clean.data());
  const std::int64_t taken =
      level_->scan(clean.data(), static_cast<std::int64_t>(clean.size()), progress.levels);
  if (bad > 0)
    nonfinite_ += std::count_if(samples.begin(), samples.begin() + taken,
                                [](float x) { return !std::isfinite(x); });
  samples.swap(clean);
  return taken;
}

Progress StreamAudio::flush(Batch& batch) {
  static thread_local std::vector<float> samples;
  Progress progress;
  for (Input& input : inputs_) {
    if (!input.resampler) continue;
    samples.clear();
    input.resampler->close(samples);
    extract(input, samples.data(), static_cast<std::int64_t>(samples.size()), batch, progress);
  }
  return progress;
}

void StreamAudio::use(const float* samples, std::int64_t count, Batch& batch, Progress& progress) {
  static thread_local std::vector<float> resampled;
  end_ += count;
  progress.samples = count;
  for (Input& input : inputs_) {
    if (!input.resampler) {
      extract(input, samples, count, batch, progress);
      continue;
    }
    resampled.clear();
    input.resampler->push(samples, count, resampled);
    extract(input, resampled.data(), static_cast<std::int64_t>(resampled.size()), batch, progress);
  }
}

void StreamAudio::extract(Input& input, const float* samples, std::int64_t count, Batch& batch,
                          Progress& progress) {
  if (input.kept) input.kept->append(samples, count);
  for (FrontEnd& one : input.front_ends) {
    const std::int64_t before = one.ring->end();
    one.extractor->push(samples, count, *one.ring, batch);
    progress.frames += one.ring->end() - before;
    if (one.ring->end() > before && one.ring->end() >= one.due) progress.due.push_back(one.number);
  }
}

void StreamAudio::restart(std::int64_t start) {
  end_ = start;
  level_->restart(start);
  for (Input& input : inputs_) {
    if (input.resampler) input.resampler->reset();
    if (input.kept) input.kept->skip_to(start * input.rate / rate_);
    for (FrontEnd& one : input.front_ends) one.due = 0;
  }
}

}  // namespace streamtag
