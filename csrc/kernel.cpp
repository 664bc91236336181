// The kernel: frames from samples. It is compiled once per instruction set, each time into its own
// namespace.

#include "kernel.hpp"

#include "batch.hpp"
#include "faint.hpp"
#include "fft.hpp"
#include "lanes.hpp"
#include "mel_matrix.hpp"
#include "precise.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

std::int32_t clean(const float* samples, std::int32_t count, float limit, float* out) {
  std::int32_t bad = 0;
  for (std::int32_t i = 0; i < count; ++i) {
    const float x = samples[i];
    const bool finite = __builtin_fabsf(x) <= __FLT_MAX__;
    const float bounded = x < -limit ? -limit : x > limit ? limit : x;
    out[i] = finite ? bounded : 0.0f;
    bad += finite ? 0 : 1;
  }
  return bad;
}

/// ln(x) of positive normal numbers, as in logf of Cephes (Moshier). The error is below 1e-7 times
/// the larger of 1 and the result.
template <int L>
STREAMTAG_INLINE Vec<float, L> ln(Vec<float, L> x) {
  using Ints = Vec<std::int32_t, L>;
  // x = 2^e · m with sqrt(1/2) <= m < sqrt(2).
  constexpr std::int32_t kRootHalf = 0x3f3504f3;
  const Ints bits = reinterpret_cast<Ints>(x) - kRootHalf;
  const Ints exponent = bits >> 23;
  const Vec<float, L> m =
      reinterpret_cast<Vec<float, L>>((bits & 0x007fffff) + kRootHalf) - broadcast<L>(1.0f);
  const Vec<float, L> e = __builtin_convertvector(exponent, Vec<float, L>);
  Vec<float, L> p = broadcast<L>(7.0376836292e-2f);
  for (const float c : {-1.1514610310e-1f, 1.1676998740e-1f, -1.2420140846e-1f, 1.4249322787e-1f,
                        -1.6668057665e-1f, 2.0000714765e-1f, -2.4999993993e-1f, 3.3333331174e-1f})
    p = fma(p, m, broadcast<L>(c));
  const Vec<float, L> square = m * m;
  Vec<float, L> y = fma(m * square, p, e * broadcast<L>(-2.12194440e-4f));
  y = fma(broadcast<L>(-0.5f), square, y);
  return fma(e, broadcast<L>(0.693359375f), m + y);
}

/// The configured logarithm of `count` values, a multiple of L, in place.
template <int L>
void apply_log(const Tables& tables, int count, float* values) {
  const Vec<float, L> floor = broadcast<L>(tables.floor), offset = broadcast<L>(tables.offset);
  const Vec<float, L> scale = broadcast<L>(tables.scale), gain = broadcast<L>(tables.log_gain),
                      one = broadcast<L>(1.0f);
  if (tables.log == Log::kLn) {
    for (int i = 0; i < count; i += L)
      store(values + i, ln<L>(max(load<L>(values + i), floor) + offset));
  } else if (tables.log == Log::kDb) {
    for (int i = 0; i < count; i += L)
      store(values + i, scale * ln<L>(max(load<L>(values + i), floor) + offset));
  } else if (tables.log == Log::kLn1p) {
    for (int i = 0; i < count; i += L) {
      const Vec<float, L> x = gain * load<L>(values + i), y = one + x;
      store(values + i,
            ln<L>(y) + (x - (y - one)) / y);  // corrects the rounding of y to first order
    }
  }
}

/// Clips `count` values, a multiple of L, at the running maximum minus `top`.
template <int L>
void clip(const Tables& tables, int count, float* values, float* peak) {
  Vec<float, L> top = broadcast<L>(*peak);
  for (int i = 0; i < count; i += L) top = max(top, load<L>(values + i));
  for (int i = 0; i < L; ++i) *peak = top[i] > *peak ? top[i] : *peak;
  const Vec<float, L> least = broadcast<L>(*peak - tables.top);
  for (int i = 0; i < count; i += L) store(values + i, max(load<L>(values + i), least));
}

template <int L>
void frame_of(const Tables& tables, const float* samples, Memory memory, float* peak, float* out) {
  const Scratch<float> scratch(tables, memory.floats);
  power_spectrum<L>(tables, samples, scratch);
  float* bins = scratch.power;
  float* mels = scratch.mels;
  const int width = tables.groups * tables.mel_lanes;
  const bool clipped = tables.top < __FLT_MAX__;
  to_magnitudes(tables, tables.bins, bins);
  if (tables.order_of_log == Order::kLogMel) {
    apply_log<L>(tables, tables.bins, bins);
    if (clipped) clip<L>(tables, tables.bins, bins, peak);
    for (int i = 0; i < tables.bins; ++i) bins[i] += tables.weighting[i];
  }
  apply_mel_matrix<(L < 8 ? L : 8)>(tables, bins, mels);
  if (tables.order_of_log == Order::kMelLog) {
    if (has_faint<L>(tables, bins, width, mels))
      precise_mels(tables.precise, samples, memory.doubles, mels);
    apply_log<L>(tables, width, mels);
    if (clipped) clip<L>(tables, width, mels, peak);
  }
  __builtin_memcpy(out, mels, sizeof(float) * static_cast<std::size_t>(tables.n_mels));
}

void frame(const Tables& tables, const float* samples, Memory memory, float* peak, float* out) {
#if defined(__AVX512F__)
  if (tables.lanes == 16) return frame_of<16>(tables, samples, memory, peak, out);
#endif
#if defined(__AVX2__)
  if (tables.lanes == 8) return frame_of<8>(tables, samples, memory, peak, out);
#endif
  frame_of<4>(tables, samples, memory, peak, out);
}

template <int L>
void batch_of(const Tables& tables, const float* const* samples, Memory memory, float* const* out) {
  const BatchScratch<L> scratch(tables, memory.floats);
  load_batch<L>(tables, samples, scratch);
  batch_power<L>(tables, scratch);
  to_magnitudes(tables, tables.bins * L, scratch.power);
  const Vec<float, L> top = batch_apply_mel_matrix<L>(tables, scratch);
  batch_faint<L>(tables, samples, top, scratch, memory.doubles, out);
  apply_log<L>(tables, tables.n_mels * L, scratch.mels);
  store_batch<L>(tables, scratch, out);
}

void batch(const Tables& tables, const float* const* samples, Memory memory, float* const* out) {
#if defined(__AVX512F__)
  if (tables.lanes == 16) return batch_of<16>(tables, samples, memory, out);
#endif
#if defined(__AVX2__)
  if (tables.lanes == 8) return batch_of<8>(tables, samples, memory, out);
#endif
  batch_of<4>(tables, samples, memory, out);
}

Measured measure(const float* samples, std::int32_t count) {
  constexpr int L = 8;
  using Doubles = Vec<double, L>;
  Doubles sum{}, squares{};
  Vec<float, L> peak{};
  std::int32_t i = 0;
  for (; i + L <= count; i += L) {
    const Vec<float, L> x = load<L>(samples + i);
    const Doubles y = __builtin_convertvector(x, Doubles);
    peak = max(peak, max(x, -x));
    sum += y;
    squares += y * y;
  }
  Measured found{0.0, 0.0, 0.0f};
  for (int lane = 0; lane < L; ++lane) {
    found.sum += sum[lane];
    found.squares += squares[lane];
    found.peak = peak[lane] > found.peak ? peak[lane] : found.peak;
  }
  for (; i < count; ++i) {
    const double x = samples[i];
    const float size = __builtin_fabsf(samples[i]);
    found.sum += x;
    found.squares += x * x;
    found.peak = size > found.peak ? size : found.peak;
  }
  return found;
}

#if defined(__AVX512F__)
constexpr std::int32_t kLanes = 16;
#elif defined(__AVX2__)
constexpr std::int32_t kLanes = 8;
#else
constexpr std::int32_t kLanes = 4;
#endif

template <bool Same>
STREAMTAG_INLINE void filter_of(const float* const* samples, const float* const* taps,
                                std::int32_t count, float* out) {
  constexpr int L = kLanes;
  Vec<float, L> sums[L] = {};
  for (std::int32_t k = 0; k < count; k += L) {
    const Vec<float, L> shared = load<L>(taps[0] + k);
    unroll<L>([&](auto i) __attribute__((always_inline)) {
      sums[i] = fma(load<L>(samples[i] + k), Same ? shared : load<L>(taps[i] + k), sums[i]);
    });
  }
  store(out, horizontal_sums(sums));
}

void filter(const float* const* samples, const float* const* taps, std::int32_t count, float* out) {
  // Neighbours have the same filter only where all have.
  if (taps[0] == taps[1])
    filter_of<true>(samples, taps, count, out);
  else
    filter_of<false>(samples, taps, count, out);
}

void mix(const float* const* rows, const float* weights, std::int32_t terms, std::int32_t count,
         float* out) {
  constexpr int L = kLanes, N = kMixed / L < 8 ? kMixed / L : 8;
  for (std::int32_t k = 0; k < count; k += N * L) {
    Vec<float, L> sums[N] = {};
    for (std::int32_t i = 0; i < terms; ++i) {
      const Vec<float, L> weight = broadcast<L>(weights[i]);
      const float* row = rows[i] + k;
      unroll<N>([&](auto j) __attribute__((always_inline)) {
        sums[j] = fma(load<L>(row + j * L), weight, sums[j]);
      });
    }
    unroll<N>([&](auto j) __attribute__((always_inline)) { store(out + k + j * L, sums[j]); });
  }
}

#define STREAMTAG_TEXT_OF(name) #name
#define STREAMTAG_TEXT(name) STREAMTAG_TEXT_OF(name)

}  // namespace

extern const Kernel kernel;
const Kernel kernel = {
    STREAMTAG_TEXT(STREAMTAG_KERNEL), kLanes, clean, frame, batch, measure, filter, mix};

}  // namespace streamtag::STREAMTAG_KERNEL
