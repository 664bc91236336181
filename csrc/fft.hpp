#pragma once

// Power spectrum of one frame of N real samples, with L neighbours in the lanes of a vector.
//
// N = R·M with R = 2L. For each n < M the R samples n, n+M, n+2M, ... go through a real R-point DFT
// (L values of n at a time), are turned by exp(-2πi np/N) and transposed, so that the lanes become
// p = 0..L-1; then M-point complex FFTs run over n, all vertical. Output (k, p) is bin R·k+p, or,
// above N/2, the conjugate of bin N-(R·k+p): every bin appears once, and since the first stage was
// real there is nothing to untangle, but for the bins that are multiples of L. Those come from
// lane 0: the sums over even and over odd multiples of M, end to end, are a real sequence of
// length 2M whose DFT they are; it travels through lane 0 as M complex numbers.

#include "kernel.hpp"
#include "lanes.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

template <int L>
struct Complex {
  Vec<L> re, im;
};

template <int L>
STREAMTAG_INLINE Complex<L> operator+(Complex<L> a, Complex<L> b) {
  return {a.re + b.re, a.im + b.im};
}

template <int L>
STREAMTAG_INLINE Complex<L> operator-(Complex<L> a, Complex<L> b) {
  return {a.re - b.re, a.im - b.im};
}

template <int L>
STREAMTAG_INLINE Complex<L> operator*(Complex<L> a, Complex<L> b) {
  return {fnma(a.im, b.im, a.re * b.re), fma(a.re, b.im, a.im * b.re)};
}

/// a·(-i).
template <int L>
STREAMTAG_INLINE Complex<L> turned(Complex<L> a) {
  return {a.im, -a.re};
}

/// cos(2πi/32), one quadrant.
constexpr double kCos[] = {1.0,
                           0.98078528040323044913,
                           0.92387953251128675613,
                           0.83146961230254523708,
                           0.70710678118654752440,
                           0.55557023301960222474,
                           0.38268343236508977173,
                           0.19509032201612826785,
                           0.0};

/// cos(2πi/N), 0 <= i < N <= 32.
template <int N>
constexpr Real cosine(int i) {
  const int j = i * (32 / N) % 32;
  if (j <= 8) return static_cast<Real>(kCos[j]);
  if (j <= 16) return static_cast<Real>(-kCos[16 - j]);
  if (j <= 24) return static_cast<Real>(-kCos[j - 16]);
  return static_cast<Real>(kCos[32 - j]);
}

/// exp(-2πi k/N) in every lane.
template <int N, int L>
STREAMTAG_INLINE Complex<L> root(int k) {
  return {all<L>(cosine<N>(k)), all<L>(-cosine<N>((k + 3 * N / 4) % N))};
}

/// DFT of the N real vectors x[0], x[Stride], ...: outputs 0..N/2, by split radix.
///
/// With `Joined` the last butterfly of outputs 0 and N/2, whose imaginary parts are not written, is
/// left out: there stand the sum of the even and the sum of the odd inputs.
template <int N, int Stride, bool Joined, int L>
STREAMTAG_INLINE void real_dft(const Vec<L>* x, Complex<L>* out) {
  if constexpr (N == 1) {
    out[0].re = x[0];
  } else if constexpr (N == 2) {
    out[0].re = x[0] + x[Stride];
    out[1].re = x[0] - x[Stride];
  } else {
    Complex<L> u[N / 4 + 1], y[N / 8 + 1], z[N / 8 + 1];
    real_dft<N / 2, 2 * Stride, false, L>(x, u);
    real_dft<N / 4, 4 * Stride, false, L>(x + Stride, y);
    real_dft<N / 4, 4 * Stride, false, L>(x + 3 * Stride, z);
    const Vec<L> odd = y[0].re + z[0].re;
    out[0].re = Joined ? u[0].re : u[0].re + odd;
    out[N / 2].re = Joined ? odd : u[0].re - odd;
    out[N / 4] = {u[N / 4].re, z[0].re - y[0].re};
    unroll<(N / 8 > 1 ? N / 8 - 1 : 0)>([&](auto i) __attribute__((always_inline)) {
      constexpr int k = i + 1;
      const Complex<L> a = y[k] * root<N, L>(k), b = z[k] * root<N, L>(3 * k);
      const Complex<L> s = a + b, d = a - b;
      const Complex<L> v = u[N / 4 - k];
      out[k] = u[k] + s;
      out[N / 2 - k] = {u[k].re - s.re, s.im - u[k].im};
      out[N / 4 + k] = {v.re + d.im, -v.im - d.re};
      out[N / 4 - k] = {v.re - d.im, v.im - d.re};
    });
    if constexpr (N >= 8) {
      constexpr int k = N / 8;
      const Vec<L> half = all<L>(cosine<8>(1));
      const Vec<L> s = y[k].re + z[k].re, d = y[k].re - z[k].re;
      out[k] = {fma(half, d, u[k].re), fnma(half, s, u[k].im)};
      out[3 * k] = {fnma(half, d, u[k].re), -fma(half, s, u[k].im)};
    }
  }
}

template <int L>
STREAMTAG_INLINE void dft4(Complex<L>* x) {
  const Complex<L> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3], d = turned(x[1] - x[3]);
  x[0] = a + c;
  x[1] = b + d;
  x[2] = a - c;
  x[3] = b - d;
}

template <int L>
STREAMTAG_INLINE void dft8(Complex<L>* x) {
  Complex<L> even[4] = {x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]};
  dft4<L>(even);
  const Complex<L> d0 = x[0] - x[4], d1 = x[1] - x[5], d2 = turned(x[2] - x[6]), d3 = x[3] - x[7];
  // d1 and d3 turned by an odd eighth, still without its factor sqrt(1/2).
  const Complex<L> e1 = {d1.re + d1.im, d1.im - d1.re}, e3 = {d3.im - d3.re, -d3.re - d3.im};
  const Complex<L> a = d0 + d2, b = d0 - d2, c = e1 + e3, d = turned(e1 - e3);
  const Vec<L> half = all<L>(cosine<8>(1));
  x[0] = even[0];
  x[1] = {fma(half, c.re, a.re), fma(half, c.im, a.im)};
  x[2] = even[1];
  x[3] = {fma(half, d.re, b.re), fma(half, d.im, b.im)};
  x[4] = even[2];
  x[5] = {fnma(half, c.re, a.re), fnma(half, c.im, a.im)};
  x[6] = even[3];
  x[7] = {fnma(half, d.re, b.re), fnma(half, d.im, b.im)};
}

template <int Radix, int L>
STREAMTAG_INLINE void dft(Complex<L>* x) {
  if constexpr (Radix == 4) dft4<L>(x);
  if constexpr (Radix == 8) dft8<L>(x);
}

/// Where the complex vectors of a row lie: number n at re + n·stride and im + n·stride.
struct Row {
  Real* re;
  Real* im;
  int stride;
};

/// Memory of one frame on its way; `rows` holds re and im of L numbers side by side.
struct Scratch {
  Real* rows;     // (M, 2, L)
  Real* joined;   // (2M,)
  Real* special;  // (2, M + L): re and im of lane 0's outputs, in order
  Real* power;    // (bins,)
  Real* mels;     // (groups, G)

  Scratch(const Transform<Real>& tables, Real* memory)
      : rows(memory),
        joined(rows + tables.n_fft + tables.bins),
        special(joined + 2 * tables.rows),
        power(rows + tables.n_fft),
        mels(special + 2 * (tables.rows + tables.lanes)) {}

  template <int L>
  STREAMTAG_INLINE Row row() const {
    return {rows, rows + L, 2 * L};
  }
};

/// First stage: windowed samples to rows.
template <int L>
void first_stage(const Transform<Real>& tables, const float* samples, const Scratch& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  const Real* window = tables.window;
  const Real* twist = tables.twist;
  Real* rows = scratch.rows;
  Real* joined = scratch.joined;
  for (int n = 0; n < m; n += L) {
    Vec<L> x[R];
    unroll<R>([&](auto q) __attribute__((always_inline)) {
      x[q] = load_samples<L>(samples + n + q * m) * load<L>(window + q * L);
    });
    window += R * L;
    Complex<L> y[L + 1];
    real_dft<R, 1, true, L>(x, y);
    store(joined + n, y[0].re);
    store(joined + m + n, y[L].re);
    Vec<L> re[L], im[L];
    re[0] = im[0] = Vec<L>{};
    unroll<L - 1>([&](auto p) __attribute__((always_inline)) {
      const Complex<L> turn = {load<L>(twist + 2 * p * L), load<L>(twist + (2 * p + 1) * L)};
      const Complex<L> product = y[p + 1] * turn;
      re[p + 1] = product.re;
      im[p + 1] = product.im;
    });
    twist += 2 * (L - 1) * L;
    transpose<L>(re);
    unroll<L>([&](auto i) __attribute__((always_inline)) { store(rows + 2 * (n + i) * L, re[i]); });
    transpose<L>(im);
    unroll<L>([&](auto i)
                  __attribute__((always_inline)) { store(rows + (2 * (n + i) + 1) * L, im[i]); });
  }
}

/// Numbers n, n + step, ... of the row; with `Joined`, lane 0 comes from the joined sequence, its
/// even samples real, its odd ones imaginary.
template <int Radix, bool Joined, int L>
STREAMTAG_INLINE void load_some(const Row& row, const Real* joined, int n, int step,
                                Complex<L>* x) {
  const Real* re = row.re + n * row.stride;
  const Real* im = row.im + n * row.stride;
  const int apart = step * row.stride;
  unroll<Radix>([&](auto q) __attribute__((always_inline)) {
    x[q] = {load<L>(re + q * apart), load<L>(im + q * apart)};
    if constexpr (Joined) {
      x[q].re = with_first(x[q].re, joined + 2 * (n + q * step));
      x[q].im = with_first(x[q].im, joined + 2 * (n + q * step) + 1);
    }
  });
}

/// One stage of the FFTs over n, in place: sub-transforms of `size` numbers become `Radix` of them.
template <int Radix, bool Joined, int L>
void middle_stage(const Transform<Real>& tables, int size, const Real* turns, const Row& row,
                  const Real* joined) {
  const int m = tables.rows;
  const int step = size / Radix;
  const int apart = step * row.stride;
  for (int j = 0; j < step; ++j, turns += 2 * (Radix - 1))
    for (int n = j; n < m; n += size) {
      Complex<L> x[Radix];
      load_some<Radix, Joined, L>(row, joined, n, step, x);
      dft<Radix, L>(x);
      Real* re = row.re + n * row.stride;
      Real* im = row.im + n * row.stride;
      store(re, x[0].re);
      store(im, x[0].im);
      unroll<Radix - 1>([&](auto i) __attribute__((always_inline)) {
        constexpr int q = i + 1;
        const Complex<L> y = x[q] * Complex<L>{all<L>(turns[2 * i]), all<L>(turns[2 * i + 1])};
        store(re + q * apart, y.re);
        store(im + q * apart, y.im);
      });
    }
}

/// The last stage, squared, each bin to its place; lane 0 apart.
template <int Radix, bool Joined, int L>
void last_stage(const Transform<Real>& tables, const Scratch& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  const int blocks = m / Radix;
  const std::int32_t* order = tables.order;
  Real* power = scratch.power;
  Real* special_re = scratch.special;
  Real* special_im = scratch.special + m + L;
  for (int block = 0; block < blocks; ++block) {
    Complex<L> x[Radix];
    load_some<Radix, Joined, L>(scratch.row<L>(), scratch.joined, block * Radix, 1, x);
    dft<Radix, L>(x);
    unroll<Radix>([&](auto q) __attribute__((always_inline)) {
      const int k = order[block] + q * blocks;
      special_re[k] = x[q].re[0];
      special_im[k] = x[q].im[0];
      const Vec<L> square = fma(x[q].re, x[q].re, x[q].im * x[q].im);
      if constexpr (q < Radix / 2)
        store(power + k * R, square);
      else
        store(power + (m - k) * R - (L - 1), shuffle<Reversed<L>>(square, square));
    });
  }
}

/// The bins that are multiples of L, from the outputs of lane 0.
template <int L>
void untangle(const Transform<Real>& tables, const Scratch& scratch) {
  const int m = tables.rows;
  const Real* turn_re = tables.untangle;
  const Real* turn_im = turn_re + m;
  Real* re = scratch.special;
  Real* im = re + m + L;
  Real* power = scratch.power;
  const Vec<L> half = all<L>(Real{0.5});
  re[m] = re[0];
  im[m] = im[0];
  const Real last = re[0] - im[0];
  Real bins[L];
  for (int j = 0; j < m; j += L) {
    const Complex<L> z = {load<L>(re + j), load<L>(im + j)};
    const Vec<L> mirror_re = load<L>(re + m - j - L + 1), mirror_im = load<L>(im + m - j - L + 1);
    const Complex<L> w = {shuffle<Reversed<L>>(mirror_re, mirror_re),
                          -shuffle<Reversed<L>>(mirror_im, mirror_im)};
    const Complex<L> turn = {load<L>(turn_re + j), load<L>(turn_im + j)};
    const Complex<L> c = (z + w) + turned(z - w) * turn;
    store(bins, half * half * fma(c.re, c.re, c.im * c.im));
    for (int i = 0; i < L; ++i) power[(j + i) * L] = bins[i];
  }
  power[m * L] = last * last;
}

/// All stages of the FFTs over n but the last.
template <bool Joined, int L>
void middle_stages(const Transform<Real>& tables, const Row& row, const Real* joined) {
  int size = tables.rows;
  const Real* turns = tables.turns;
  for (int stage = 0; stage + 1 < tables.stages; ++stage) {
    const int radix = tables.radix[stage];
    if (stage == 0 && radix == 8)
      middle_stage<8, Joined, L>(tables, size, turns, row, joined);
    else if (stage == 0)
      middle_stage<4, Joined, L>(tables, size, turns, row, joined);
    else if (radix == 8)
      middle_stage<8, false, L>(tables, size, turns, row, joined);
    else
      middle_stage<4, false, L>(tables, size, turns, row, joined);
    size /= radix;
    turns += 2 * (radix - 1) * size;
  }
}

template <bool Joined, int L>
STREAMTAG_INLINE void last_stage(const Transform<Real>& tables, const Scratch& scratch) {
  if (tables.radix[tables.stages - 1] == 8)
    last_stage<8, Joined, L>(tables, scratch);
  else
    last_stage<4, Joined, L>(tables, scratch);
}

/// Power of the bins 0..N/2, zeros behind them up to `tables.bins`.
template <int L>
void power_spectrum(const Transform<Real>& tables, const float* samples, const Scratch& scratch) {
  first_stage<L>(tables, samples, scratch);
  store(scratch.power + tables.rows * L, Vec<L>{});
  middle_stages<true, L>(tables, scratch.row<L>(), scratch.joined);
  if (tables.stages == 1)
    last_stage<true, L>(tables, scratch);
  else
    last_stage<false, L>(tables, scratch);
  untangle<L>(tables, scratch);
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
