#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace streamtag {

inline int failures = 0;

inline void expect(bool fine, const std::string& what) {
  if (fine) return;
  std::printf("FAILED: %s\n", what.c_str());
  ++failures;
}

/// Numbers that are the same every time.
class Random {
 public:
  explicit Random(std::uint32_t seed) : state_(seed) {}
  /// One of [0, below).
  std::int64_t next(std::int64_t below) {
    state_ = state_ * 1664525u + 1013904223u;
    return static_cast<std::int64_t>(state_ >> 8) % below;
  }
  /// One of [-1, 1).
  float sample() { return static_cast<float>(next(1 << 24)) / 8388608.0f - 1.0f; }

 private:
  std::uint32_t state_;
};

void test_stream_audio();
void test_pcm_reader();

}  // namespace streamtag
