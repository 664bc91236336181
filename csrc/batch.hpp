#pragma once

// L frames at once, one in each lane.
//
// Every operation of fft.hpp and kernel.cpp on one frame is done here in the same order and with
// the same contractions, so that a frame's bits do not depend on the frames beside it. This is
// faster: it needs no transposition, no scattered bins and no sums across lanes. But the working
// memory of all L frames must fit into the cache.

#include "faint.hpp"
#include "fft.hpp"
#include "kernel.hpp"
#include "lanes.hpp"
#include "precise.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

/// No sequence replaces lane 0, which holds a frame like all other lanes.
constexpr const float* kNotPacked = nullptr;

/// Working memory of L frames. Every number is a vector: one lane per frame.
template <int L>
struct BatchScratch {
  BatchScratch(const Tables& tables, float* memory)
      : columns(memory),
        power(columns + tables.n_fft * L),
        packed_output(power + tables.bins * L),
        mels(packed_output + 2 * tables.rows * L) {}

  float*
      columns;  // (N, L) samples; then (p, 2, M, L) rows, and for p = 0 the packed sequence (2M, L)
  float* power;          // (bins, L)
  float* packed_output;  // (M, 2, L) outputs of p = 0, in order
  float* mels;           // (n_mels and up to L more, L)
};

template <int L>
void load_batch(const Tables& tables, const float* const* samples, const BatchScratch<L>& scratch) {
  for (int i = 0; i < tables.n_fft; i += L) {
    Vec<float, L> tile[L];
    unroll<L>([&](auto f) __attribute__((always_inline)) { tile[f] = load<L>(samples[f] + i); });
    transpose(tile);
    unroll<L>([&](auto j) __attribute__((always_inline)) {
      store(scratch.columns + (i + j) * L, tile[j]);
    });
  }
}

/// Steps 1 and 2, in place: the samples of a column become its numbers in all rows.
template <int L>
void batch_first_stage(const Tables& tables, const BatchScratch<L>& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  for (int n = 0; n < m; ++n) {
    float* columns = scratch.columns + n * L;
    const float* window = tables.window + n / L * R * L + n % L;
    const float* first_twiddles = tables.first_twiddles + n / L * 2 * (L - 1) * L + n % L;
    Vec<float, L> x[R];
    unroll<R>([&](auto q) __attribute__((always_inline)) {
      x[q] = load<L>(columns + q * m * L) * broadcast<L>(window[q * L]);
    });
    Complex<float, L> y[L + 1];
    real_dft<R, 1, true>(x, y);
    store(columns, y[0].re);
    store(columns + m * L, y[L].re);
    unroll<L - 1>([&](auto p) __attribute__((always_inline)) {
      const Complex<float, L> twiddle = {broadcast<L>(first_twiddles[2 * p * L]),
                                         broadcast<L>(first_twiddles[(2 * p + 1) * L])};
      const Complex<float, L> product = y[p + 1] * twiddle;
      store(columns + 2 * (p + 1) * m * L, product.re);
      store(columns + (2 * (p + 1) + 1) * m * L, product.im);
    });
  }
}

/// The last stage of row p. It writes powers, for row 0 the outputs themselves.
template <int Radix, int L>
void batch_last_stage(const Tables& tables, int p, const Row<float>& row,
                      const BatchScratch<L>& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  const int blocks = m / Radix;
  for (int block = 0; block < blocks; ++block) {
    Complex<float, L> x[Radix];
    load_strided<Radix, false, L>(row, kNotPacked, block * Radix, 1, x);
    dft<Radix>(x);
    unroll<Radix>([&](auto q) __attribute__((always_inline)) {
      const int k = tables.order[block] + q * blocks;
      if (p == 0) {
        store(scratch.packed_output + 2 * k * L, x[q].re);
        store(scratch.packed_output + (2 * k + 1) * L, x[q].im);
      } else {
        const int bin = q < Radix / 2 ? k * R + p : (m - k) * R - p;
        store(scratch.power + bin * L, fma(x[q].re, x[q].re, x[q].im * x[q].im));
      }
    });
  }
}

template <int L>
void batch_unpack_real(const Tables& tables, const BatchScratch<L>& scratch) {
  const int m = tables.rows;
  const Vec<float, L> half = broadcast<L>(0.5f);
  const auto output = [&](int k) __attribute__((always_inline)) {
    return Complex<float, L>{load<L>(scratch.packed_output + 2 * k * L),
                             load<L>(scratch.packed_output + (2 * k + 1) * L)};
  };
  for (int j = 0; j < m; ++j) {
    const Complex<float, L> z = output(j), mirror = output(j == 0 ? 0 : m - j);
    const Complex<float, L> w = {mirror.re, -mirror.im};
    const Complex<float, L> twiddle = {broadcast<L>(tables.unpack_twiddles[j]),
                                       broadcast<L>(tables.unpack_twiddles[m + j])};
    const Complex<float, L> c = (z + w) + times_minus_i(z - w) * twiddle;
    store(scratch.power + j * L * L, half * half * fma(c.re, c.re, c.im * c.im));
  }
  const Complex<float, L> first = output(0);
  const Vec<float, L> last = first.re - first.im;
  store(scratch.power + m * L * L, last * last);
}

template <int L>
void batch_power(const Tables& tables, const BatchScratch<L>& scratch) {
  batch_first_stage<L>(tables, scratch);
  const int plane = tables.rows * L;
  for (int p = 0; p < L; ++p) {
    float* start = scratch.columns + 2 * p * plane;
    const Row<float> row =
        p == 0 ? Row<float>{start, start + L, 2 * L} : Row<float>{start, start + plane, L};
    middle_stages<false, L>(tables, row, kNotPacked);
    if (tables.radix[tables.stages - 1] == 8)
      batch_last_stage<8, L>(tables, p, row, scratch);
    else
      batch_last_stage<4, L>(tables, p, row, scratch);
  }
  batch_unpack_real<L>(tables, scratch);
  for (int bin = tables.n_fft / 2 + 1; bin < tables.bins; ++bin)
    store(scratch.power + bin * L, Vec<float, L>{});
}

/// The mel matrix times the bins, each sum in the order of `apply_mel_matrix` and
/// `horizontal_sums`. Returns the largest mel of each frame.
template <int L>
Vec<float, L> batch_apply_mel_matrix(const Tables& tables, const BatchScratch<L>& scratch) {
  Vec<float, L> top{};
  constexpr int G = L < 8 ? L : 8;
  const float* weights = tables.weights;
  for (int group = 0; group < tables.groups; ++group) {
    const int span = tables.spans[group];
    for (int m = 0; m < G && group * G + m < tables.n_mels; ++m) {
      const float* bins = scratch.power + tables.firsts[group * G + m] * L;
      Vec<float, L> sum[G];
      unroll<G>([&](auto i) __attribute__((always_inline)) {
        sum[i] = broadcast<L>(weights[m * G + i]) * load<L>(bins + i * L);
      });
      for (int v = 1; v < span; ++v)
        unroll<G>([&](auto i) __attribute__((always_inline)) {
          sum[i] = fma(broadcast<L>(weights[(v * G + m) * G + i]), load<L>(bins + (v * G + i) * L),
                       sum[i]);
        });
      Vec<float, L> total = (sum[0] + sum[2]) + (sum[1] + sum[3]);
      if constexpr (G == 8) total = total + ((sum[4] + sum[6]) + (sum[5] + sum[7]));
      store(scratch.mels + (group * G + m) * L, total);
      top = max(top, total);
    }
    weights += span * G * G;
  }
  return top;
}

/// Computes the frames that have a faint mel again, in double precision. Each frame's `out` is used
/// as working memory. A frame that is repeated in unused lanes is computed only once.
template <int L>
void batch_faint(const Tables& tables, const float* const* samples, Vec<float, L> top,
                 const BatchScratch<L>& scratch, double* memory, float* const* out) {
  Vec<float, L> level[L];
  for (int s = 0; s < kPartialSums; ++s) {
    Vec<float, L> part[L] = {};
    for (int bin = s * L; bin < tables.bins; bin += kPartialSums * L)
      unroll<L>([&](auto i) __attribute__((always_inline)) {
        part[i] = part[i] + power_of(tables, load<L>(scratch.power + (bin + i) * L));
      });
    unroll<L>([&](auto i) __attribute__((always_inline)) {
      level[i] = s == 0 ? part[i] : level[i] + part[i];
    });
  }
  for (int half = L / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) level[i] = level[i] + level[i + half];
  const Vec<float, L> least = least_of(tables, top);
  Vec<std::int32_t, L> found{};
  for (int m = 0; m < tables.n_mels; ++m) {
    const Vec<float, L> bound = broadcast<L>(tables.faint[m]) * level[0];
    found |= is_faint(tables, load<L>(scratch.mels + m * L), bound, least);
  }
  if (!any<L>(found)) return;
  for (int f = 0; f < L; ++f) {
    if (found[f] == 0) continue;
    if (f == 0 || samples[f] != samples[f - 1])
      precise_mels(tables.precise, samples[f], memory, out[f]);
    for (int m = 0; m < tables.n_mels; ++m) scratch.mels[m * L + f] = out[f][m];
  }
}

template <int L>
void store_batch(const Tables& tables, const BatchScratch<L>& scratch, float* const* out) {
  for (int m = 0; m < tables.n_mels; m += L) {
    Vec<float, L> tile[L];
    unroll<L>([&](auto j) __attribute__((always_inline)) {
      tile[j] = load<L>(scratch.mels + (m + j) * L);
    });
    transpose(tile);
    if (m + L <= tables.n_mels) {
      unroll<L>([&](auto f) __attribute__((always_inline)) { store(out[f] + m, tile[f]); });
    } else {
      const auto rest = sizeof(float) * static_cast<std::size_t>(tables.n_mels - m);
      for (int f = 0; f < L; ++f) __builtin_memcpy(out[f] + m, &tile[f], rest);
    }
  }
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
