// The C++ core without Python, to be run under ASan and UBSan: odd sizes, every instruction set.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "check.hpp"
#include "extractor.hpp"
#include "mel.hpp"
#include "plan.hpp"
#include "ring.hpp"

namespace streamtag {
namespace {

template <class Action>
bool throws(Action action) {
  try {
    action();
  } catch (const std::logic_error&) {
    return true;
  }
  return false;
}

/// `count` samples in [-1, 1), the same ones every time.
std::vector<float> noise(std::int64_t count) {
  std::vector<float> samples;
  std::uint32_t state = 1;
  for (std::int64_t i = 0; i < count; ++i) {
    state = state * 1664525u + 1013904223u;
    samples.push_back(static_cast<float>(state >> 8) / 8388608.0f - 1.0f);
  }
  return samples;
}

/// A tone, and from the middle on noise: frames with faint mels and without.
std::vector<float> tone_and_noise(std::int64_t count) {
  std::vector<float> samples = noise(count);
  for (std::size_t i = 0; i < samples.size() / 2; ++i)
    samples[i] = std::sin(0.5f * static_cast<float>(i));
  return samples;
}

/// All frames of `samples`, pushed in blocks of `block`; copied to fresh memory of the exact size,
/// so that reading past an end is seen.
std::vector<float> frames(const Spec& spec, const char* isa, const std::vector<float>& samples,
                          std::size_t block) {
  Extractor extractor(plan_for(spec, isa), 0);
  FrameRing ring(256, spec.width());
  for (std::size_t start = 0; start < samples.size(); start += block) {
    const std::size_t end = std::min(samples.size(), start + block);
    const std::vector<float> exact(samples.begin() + static_cast<std::ptrdiff_t>(start),
                                   samples.begin() + static_cast<std::ptrdiff_t>(end));
    const std::int64_t due = extractor.due(static_cast<std::int64_t>(exact.size()));
    const std::int64_t before = ring.end();
    extractor.push(exact.data(), static_cast<std::int64_t>(exact.size()), ring);
    expect(ring.end() - before == due, "push yields what was due");
  }
  const std::int64_t due = extractor.due_at_close();
  const std::int64_t before = ring.end();
  extractor.close(ring);
  expect(ring.end() - before == due, "close yields what was due");
  std::vector<float> out(static_cast<std::size_t>((ring.end() - ring.begin()) * spec.width()));
  ring.copy(ring.begin(), ring.end() - ring.begin(), out.data());
  return out;
}

/// The mels that test_power checks, from powers that come straight from the definition.
struct PowerCase {
  Spec spec;
  std::vector<float> samples;
  std::vector<std::size_t> mels = {0, 3, 6};
  std::vector<double> expected = {};
};

PowerCase power_case(std::int64_t n_fft) {
  Spec spec;
  spec.n_fft = spec.win_length = n_fft;
  spec.log = Log::kNone;
  spec.mel_scale = MelScale::kHtk;
  spec.mel_norm = MelNorm::kNone;
  spec.n_mels = 7;
  PowerCase made{spec, noise(n_fft)};
  const std::size_t n = made.samples.size();
  std::vector<double> cosine(n), windowed(n);
  for (std::size_t i = 0; i < n; ++i) {
    cosine[i] =
        std::cos(2.0 * 3.14159265358979323846 * static_cast<double>(i) / static_cast<double>(n));
    windowed[i] = (0.5 - 0.5 * cosine[i]) * static_cast<double>(made.samples[i]);
  }
  const std::vector<Band> bands = mel_bands(spec);
  for (const std::size_t m : made.mels) {
    double sum = 0.0;
    for (std::size_t k = 0; k < bands[m].weights.size(); ++k) {
      const std::size_t bin = static_cast<std::size_t>(bands[m].first) + k;
      double re = 0.0, im = 0.0;
      for (std::size_t i = 0, turn = 0; i < n; ++i, turn = (turn + bin) % n) {
        re += windowed[i] * cosine[turn];
        im -= windowed[i] * cosine[(turn + 3 * n / 4) % n];  // sin(x) = cos(x - pi/2)
      }
      sum += bands[m].weights[k] * (re * re + im * im);
    }
    made.expected.push_back(sum);
  }
  return made;
}

std::vector<Spec> specs() {
  std::vector<Spec> all;
  for (std::int64_t n_fft = 32; n_fft <= 2048; n_fft *= 2)
    for (const std::int64_t hop : {n_fft / 3, n_fft + 7}) {
      Spec spec;
      spec.n_fft = spec.win_length = n_fft;
      spec.hop = hop;
      spec.n_mels = n_fft == 64 ? 333 : 37;
      all.push_back(spec);
      spec.framing = Framing::kCentered;
      all.push_back(spec);
      spec.padding = Padding::kZero;
      spec.tail = Tail::kCeil;
      spec.log = Log::kLn1p;
      spec.preemphasis = 0.97;
      spec.mel_scale = MelScale::kKaldi;
      spec.spectrum = Spectrum::kMagnitude;
      all.push_back(spec);
      spec.order = Order::kLogMel;
      spec.weighting = Weighting::kA;
      spec.log = Log::kDb;
      spec.top_db = 30.0;
      all.push_back(spec);
    }
  all.emplace_back();
  all.back().kind = Kind::kRaw;
  return all;
}

void test_whole_equals_pieces(const char* isa) {
  for (const Spec& spec : specs()) {
    const std::int64_t n = spec.n_fft;
    for (const std::int64_t length : {std::int64_t{0}, std::int64_t{1}, n / 2 + 1, n, 6 * n + 5}) {
      const std::vector<float> samples = length > n ? tone_and_noise(length) : noise(length);
      const std::string what = std::string(isa) + ", n_fft " + std::to_string(n) + ", hop " +
                               std::to_string(spec.hop) + ", length " + std::to_string(length);
      const std::vector<float> whole = frames(spec, isa, samples, samples.size() + 1);
      expect(whole == frames(spec, isa, samples, static_cast<std::size_t>(n / 5)), what);
      for (const float value : whole) expect(std::isfinite(value), what);
    }
  }
}

void test_power(const char* isa, const std::vector<PowerCase>& cases) {
  for (const PowerCase& some : cases) {
    const std::vector<float> got = frames(some.spec, isa, some.samples, some.samples.size());
    for (std::size_t i = 0; i < some.mels.size(); ++i) {
      const double expected = some.expected[i];
      const bool close =
          std::abs(static_cast<double>(got[some.mels[i]]) - expected) <= 1e-5 * expected;
      expect(close, std::string(isa) + ": power of n_fft " + std::to_string(some.spec.n_fft));
    }
  }
}

void test_extreme_samples(const char* isa) {
  std::vector<float> samples = noise(4000);
  samples[100] = std::numeric_limits<float>::quiet_NaN();
  samples[1500] = -std::numeric_limits<float>::infinity();
  samples[2500] = std::numeric_limits<float>::max();
  for (const float value : frames(Spec{}, isa, samples, 333))
    expect(std::isfinite(value), std::string(isa) + ": extreme samples");
}

void test_ring() {
  FrameRing ring(5, 2, (std::int64_t{1} << 53) - 2);
  std::vector<float> rows(26);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i] = static_cast<float>(i);
  ring.append(rows.data(), 3);
  ring.append(rows.data(), 13);
  std::vector<float> out(10);
  ring.copy(ring.begin(), 5, out.data());
  expect(std::equal(out.begin(), out.end(), rows.begin() + 16), "the ring's newest frames");
  expect(ring.end() == (std::int64_t{1} << 53) + 14, "the ring's 64-bit index");
  expect(throws([&] { ring.require(ring.begin() - 1, 1); }), "before the ring");
  expect(throws([&] { ring.require(ring.end(), 1); }), "after the ring");
  expect(throws([] { FrameRing(0, 1); }), "an empty ring");
}

void test_refusals() {
  Spec spec;
  spec.n_fft = 500;
  expect(throws([&] { plan_for(spec, ""); }), "n_fft 500");
  expect(throws([] { plan_for(Spec{}, "mmx"); }), "an unknown instruction set");
  Extractor extractor(plan_for(Spec{}, ""), 0);
  FrameRing ring(5, 96);
  extractor.close(ring);
  const float sample = 0.0f;
  expect(throws([&] { extractor.push(&sample, 1, ring); }), "push after close");
  expect(throws([&] { extractor.reset(-1); }), "a negative start");
}

}  // namespace
}  // namespace streamtag

int main(int count, char** arguments) {
  std::signal(SIGPIPE, SIG_IGN);
  streamtag::test_stream_audio();
  streamtag::test_pcm_reader();
  if (count > 1 && std::string(arguments[1]) == "threads") {  // what several threads use
    std::printf("%d failures\n", streamtag::failures);
    return streamtag::failures == 0 ? 0 : 1;
  }
  std::vector<streamtag::PowerCase> powers;
  for (std::int64_t n_fft = 32; n_fft <= 16384; n_fft *= 2)
    powers.push_back(streamtag::power_case(n_fft));
  for (const char* isa : streamtag::instruction_sets()) {
    streamtag::test_whole_equals_pieces(isa);
    streamtag::test_power(isa, powers);
    streamtag::test_extreme_samples(isa);
    std::printf("%s done\n", isa);
  }
  streamtag::test_ring();
  streamtag::test_refusals();
  std::printf("%d failures\n", streamtag::failures);
  return streamtag::failures == 0 ? 0 : 1;
}
