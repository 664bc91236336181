#include "loudness.hpp"

#include <cmath>
#include <numbers>

namespace streamtag {
namespace {

// The analogue filters behind BS.1770-4's tables 1 and 2, which are for 48 kHz: De Man,
// "Evaluation of Implementations of the EBU R128 Loudness Measurement", 2018, section 2.
constexpr double kShelfHertz = 1681.974450955533, kShelfQ = 0.7071752369554196;
constexpr double kShelfDb = 3.999843853973347, kShelfSlope = 0.4996667741545416;
constexpr double kHighPassHertz = 38.13547087602444, kHighPassQ = 0.5003270373238773;

/// What the bilinear transform makes of a frequency.
double warped(double hertz, std::int64_t rate) {
  return std::tan(std::numbers::pi * hertz / static_cast<double>(rate));
}

}  // namespace

KWeighting::KWeighting(std::int64_t rate) {
  double k = warped(kShelfHertz, rate);
  double a0 = 1.0 + k / kShelfQ + k * k;
  const double high = std::pow(10.0, kShelfDb / 20), band = std::pow(high, kShelfSlope);
  shelf_ = {(high + band * k / kShelfQ + k * k) / a0, 2.0 * (k * k - high) / a0,
            (high - band * k / kShelfQ + k * k) / a0, 2.0 * (k * k - 1.0) / a0,
            (1.0 - k / kShelfQ + k * k) / a0};
  k = warped(kHighPassHertz, rate);
  a0 = 1.0 + k / kHighPassQ + k * k;
  high_pass_ = {1.0, -2.0, 1.0, 2.0 * (k * k - 1.0) / a0, (1.0 - k / kHighPassQ + k * k) / a0};
}

double KWeighting::push(const float* samples, std::int64_t count) {
  const auto [b0, b1, b2, a1, a2] = shelf_;
  const double c1 = high_pass_.a1, c2 = high_pass_.a2;
  double x1 = x1_, x2 = x2_, y1 = y1_, y2 = y2_, z1 = z1_, z2 = z2_, sum = 0.0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = samples[i];
    // What the newest output waits for comes last: the processor works at several samples at once.
    const double y = (b0 * x + b1 * x1 + b2 * x2 - a2 * y2) - a1 * y1;
    const double z = ((y + y2) - 2.0 * y1 - c2 * z2) - c1 * z1;
    x2 = x1;
    x1 = x;
    y2 = y1;
    y1 = y;
    z2 = z1;
    z1 = z;
    sum += z * z;
  }
  x1_ = x1, x2_ = x2, y1_ = y1, y2_ = y2, z1_ = z1, z2_ = z2;
  return sum;
}

}  // namespace streamtag
