#pragma once

#include <cstdint>

namespace streamtag {

/// The K-weighting of ITU-R BS.1770-4, annex 1, of one channel: a high shelf for what a head does
/// to sound, then a high-pass. The coefficients are computed for any sample rate.
class KWeighting {
 public:
  explicit KWeighting(std::int64_t rate);

  /// Weighs the samples that follow; returns the sum of their squares.
  double push(const float* samples, std::int64_t count);

 private:
  /// Coefficients of a filter of second order; that of the newest output is 1.
  struct Section {
    double b0, b1, b2, a1, a2;
  };

  Section shelf_, high_pass_;
  double x1_ = 0.0, x2_ = 0.0;  // the newest samples,
  double y1_ = 0.0, y2_ = 0.0;  // behind the shelf,
  double z1_ = 0.0, z2_ = 0.0;  // and behind both
};

}  // namespace streamtag
