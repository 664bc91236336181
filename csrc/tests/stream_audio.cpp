// The audio of streams, cut at random: the same frames, changes and gaps as in one piece.

#include "stream_audio.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "check.hpp"
#include "plan.hpp"

namespace streamtag {
namespace {

constexpr std::int64_t kRates[] = {1000, 8000, 11025, 22050, 44100, 48000, 31000};

/// A stretch of samples without gaps.
struct Stretch {
  std::int64_t start;
  std::vector<float> samples, sides;  // sides may be empty
};

/// What came of a stream, one number after the other.
struct Outcome {
  std::vector<std::int64_t> numbers;
  std::vector<float> frames;
  bool operator==(const Outcome&) const = default;
};

std::vector<Stretch> stretches(Random& random, std::int64_t rate) {
  std::vector<Stretch> all;
  std::int64_t at = random.next(3) * 1000;
  for (std::int64_t k = 1 + random.next(4); k > 0; --k) {
    Stretch one{at, {}, {}};
    const std::int64_t kind = random.next(3);
    for (std::int64_t part = random.next(6); part >= 0; --part) {
      const float gain = std::pow(10.0f, -static_cast<float>(random.next(5)));
      for (std::int64_t i = random.next(rate / 2); i > 0; --i) {
        float x = std::clamp(2 * gain * random.sample(), -1.0f, 1.0f);
        if (random.next(5000) == 0) x = std::numeric_limits<float>::quiet_NaN();
        one.samples.push_back(x);
        if (kind == 0) continue;
        one.sides.push_back(x);
        one.sides.push_back(kind == 1 ? x : 0.0f);
      }
    }
    at += static_cast<std::int64_t>(one.samples.size()) + 1 + random.next(5000);
    all.push_back(std::move(one));
  }
  return all;
}

/// A stream with two front ends, one of them at another rate.
class Subject {
 public:
  explicit Subject(std::int64_t rate, std::int64_t start)
      : level_(std::make_shared<LevelMeter>(
            LevelOptions{rate, rate / 10, 1e-6, rate / 5, rate / 2, rate / 4, rate}, start)),
        audio_(rate, start, level_,
               std::make_shared<ChannelMeter>(
                   ChannelOptions{rate / 10, 1e-6, 1e-5, rate / 2, rate / 3}, start)) {
    for (const std::int64_t its_rate : {rate, std::int64_t{16000}}) {
      Spec spec;
      spec.sample_rate = its_rate;
      spec.n_fft = spec.win_length = 256;
      spec.hop = 100;
      spec.n_mels = 20;
      spec.f_max = 0.5 * static_cast<double>(its_rate);
      extractors_.push_back(std::make_shared<Extractor>(plan_for(spec, ""), 0));
      rings_.push_back(std::make_shared<FrameRing>(1 << 14, spec.width()));
      audio_.add(extractors_.back(), rings_.back(), 1000);
    }
  }

  /// Adds samples, copied to fresh memory of the exact size, and uses what waits now and then.
  void push(const Stretch& one, std::int64_t from, std::int64_t count) {
    const auto samples = one.samples.begin() + from;
    const std::vector<float> exact(samples, samples + count);
    std::vector<float> sides;
    if (!one.sides.empty())
      sides.assign(one.sides.begin() + 2 * from, one.sides.begin() + 2 * (from + count));
    audio_.buffer()->append(one.start + from, exact.data(),
                            one.sides.empty() ? nullptr : sides.data(), count);
  }

  void use(double seconds) {
    audio_.allow(seconds);
    for (bool more = true; more;) {
      Progress progress;
      {
        Batch batch;
        progress = audio_.advance(batch);
      }
      more = progress.more;
      for (const LevelChange& one : progress.levels)
        note({static_cast<std::int64_t>(one.kind), one.at, one.decided, one.since, one.samples});
      for (const ChannelChange& one : progress.channels)
        channels_.insert(channels_.end(),
                         {static_cast<std::int64_t>(one.state), one.at, one.decided});
      if (progress.gap) restart(*progress.gap);
    }
  }

  Outcome finish() {
    flush();
    std::vector<LevelChange> changes;
    level_->close(audio_.end(), changes);
    for (const LevelChange& one : changes) note({one.at, one.decided, one.samples});
    note({audio_.end(), audio_.nonfinite()});
    outcome_.numbers.insert(outcome_.numbers.end(), channels_.begin(), channels_.end());
    return std::move(outcome_);
  }

 private:
  void note(std::initializer_list<std::int64_t> numbers) {
    outcome_.numbers.insert(outcome_.numbers.end(), numbers);
  }

  void flush() {
    {
      Batch batch;
      audio_.flush(batch);
    }
    for (const auto& ring : rings_) {
      const std::int64_t count = ring->end() - ring->begin();
      std::vector<float> frames(static_cast<std::size_t>(count * ring->width()));
      ring->copy(ring->begin(), count, frames.data());
      outcome_.frames.insert(outcome_.frames.end(), frames.begin(), frames.end());
      note({ring->end()});
    }
  }

  void restart(std::int64_t start) {
    flush();
    note({-1, audio_.end(), start});
    audio_.restart(start);
    for (std::size_t i = 0; i < rings_.size(); ++i) {
      extractors_[i]->reset(0);
      rings_[i]->clear(0);
    }
  }

  std::shared_ptr<LevelMeter> level_;
  StreamAudio audio_;
  std::vector<std::shared_ptr<Extractor>> extractors_;
  std::vector<std::shared_ptr<FrameRing>> rings_;
  Outcome outcome_;
  std::vector<std::int64_t> channels_;
};

Outcome outcome(const std::vector<Stretch>& all, std::int64_t rate, Random* cuts) {
  Subject subject(rate, 0);
  for (const Stretch& one : all) {
    const auto size = static_cast<std::int64_t>(one.samples.size());
    for (std::int64_t at = 0; at < size;) {
      const std::int64_t most = cuts == nullptr ? size : 1 + cuts->next(cuts->next(2) * 9000 + 50);
      const std::int64_t count = std::min(most, size - at);
      subject.push(one, at, count);
      at += count;
      if (cuts != nullptr && cuts->next(3) != 0)
        subject.use(static_cast<double>(cuts->next(100)) / 100);
    }
  }
  subject.use(1e9);
  return subject.finish();
}

void test_resampled_lengths() {
  for (const std::int64_t from : kRates)
    for (const std::int64_t to : kRates)
      for (const std::int64_t count : {0, 1, 2, 99, 4411, 30007}) {
        Resampler resampler(from, to);
        const std::vector<float> ones(static_cast<std::size_t>(count), 1.0f);
        std::vector<float> out;
        for (std::int64_t at = 0; at < count; at += 1000) {
          const std::int64_t n = std::min<std::int64_t>(1000, count - at);
          const std::size_t before = out.size();
          resampler.push(ones.data() + at, n, out);
          expect(static_cast<std::int64_t>(out.size() - before) <= resampler.most(n),
                 "a resampler gives at most what it says");
        }
        resampler.close(out);
        expect(static_cast<std::int64_t>(out.size()) == (2 * count * to + from) / (2 * from),
               "the length of resampled audio");
      }
}

}  // namespace

void test_stream_audio() {
  for (std::uint32_t seed = 0; seed < 24; ++seed) {
    Random random(seed);
    const std::int64_t rate = kRates[random.next(std::size(kRates))];
    const std::vector<Stretch> all = stretches(random, rate);
    const Outcome whole = outcome(all, rate, nullptr);
    for (int turn = 0; turn < 2; ++turn)
      expect(outcome(all, rate, &random) == whole, "a stream that is cut at random");
  }
  test_resampled_lengths();
}

}  // namespace streamtag
