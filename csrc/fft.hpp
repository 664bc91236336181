#pragma once

// Power spectrum of one frame of N real samples.
//
// The samples are an R x M matrix, R = 2L, where L is the number of lanes of a vector. It is
// transformed by the four-step FFT (Bailey, "FFTs in external or hierarchical memory", Journal of
// Supercomputing 4, 1990, pp. 23-35), the factorisation N = R·M of Cooley and Tukey (1965):
//
// 1. For each n < M, a real R-point DFT of the samples n, n+M, n+2M, ..., for L values of n at a
//    time. It is the split-radix FFT of real data (Sorensen, Jones, Heideman and Burrus,
//    "Real-valued fast Fourier transform algorithms", IEEE Trans. ASSP 35, 1987, pp. 849-863).
// 2. Output p is multiplied by the twiddle factor exp(-2πi np/N).
// 3. A transposition in registers, after which the lanes are p = 0..L-1.
// 4. M-point complex FFTs over n, one in each lane: radix 8 and 4, decimation in frequency
//    (Gentleman and Sande, "Fast Fourier transforms: for fun and profit", AFIPS 29, 1966).
//
// Output (k, p) is bin R·k+p or, above N/2, the conjugate of bin N-(R·k+p). So every bin appears
// once, and only the bins that are multiples of L have to be unpacked. They come from lane 0:
// outputs p = 0 and p = L of step 1 are real, and laid end to end they are the real sequence of
// length 2M whose DFT those bins are. Lane 0 transforms it as M complex numbers, the even samples
// as real parts and the odd ones as imaginary parts (Press et al., Numerical Recipes, section 12.3,
// "FFT of single real function").

#include "kernel.hpp"
#include "lanes.hpp"

namespace streamtag::STREAMTAG_KERNEL {
namespace {

template <class Real, int L>
struct Complex {
  Vec<Real, L> re, im;
};

template <class Real, int L>
STREAMTAG_INLINE Complex<Real, L> operator+(Complex<Real, L> a, Complex<Real, L> b) {
  return {a.re + b.re, a.im + b.im};
}

template <class Real, int L>
STREAMTAG_INLINE Complex<Real, L> operator-(Complex<Real, L> a, Complex<Real, L> b) {
  return {a.re - b.re, a.im - b.im};
}

template <class Real, int L>
STREAMTAG_INLINE Complex<Real, L> operator*(Complex<Real, L> a, Complex<Real, L> b) {
  return {fnma(a.im, b.im, a.re * b.re), fma(a.re, b.im, a.im * b.re)};
}

/// a·(-i).
template <class Real, int L>
STREAMTAG_INLINE Complex<Real, L> times_minus_i(Complex<Real, L> a) {
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
template <class Real, int N>
constexpr Real cosine(int i) {
  const int j = i * (32 / N) % 32;
  if (j <= 8) return static_cast<Real>(kCos[j]);
  if (j <= 16) return static_cast<Real>(-kCos[16 - j]);
  if (j <= 24) return static_cast<Real>(-kCos[j - 16]);
  return static_cast<Real>(kCos[32 - j]);
}

/// exp(-2πi k/N) in every lane.
template <class Real, int N, int L>
STREAMTAG_INLINE Complex<Real, L> root_of_unity(int k) {
  return {broadcast<L>(cosine<Real, N>(k)), broadcast<L>(-cosine<Real, N>((k + 3 * N / 4) % N))};
}

/// DFT of the N real vectors x[0], x[Stride], ...: outputs 0..N/2, by split radix.
///
/// The imaginary parts of outputs 0 and N/2 are zero and not written. With `Packed` the last
/// butterfly of these two is left out: they are the sum of the even and the sum of the odd inputs.
template <int N, int Stride, bool Packed, class Real, int L>
STREAMTAG_INLINE void real_dft(const Vec<Real, L>* x, Complex<Real, L>* out) {
  if constexpr (N == 1) {
    out[0].re = x[0];
  } else if constexpr (N == 2) {
    out[0].re = x[0] + x[Stride];
    out[1].re = x[0] - x[Stride];
  } else {
    Complex<Real, L> u[N / 4 + 1], y[N / 8 + 1], z[N / 8 + 1];
    real_dft<N / 2, 2 * Stride, false>(x, u);
    real_dft<N / 4, 4 * Stride, false>(x + Stride, y);
    real_dft<N / 4, 4 * Stride, false>(x + 3 * Stride, z);
    const Vec<Real, L> odd = y[0].re + z[0].re;
    out[0].re = Packed ? u[0].re : u[0].re + odd;
    out[N / 2].re = Packed ? odd : u[0].re - odd;
    out[N / 4] = {u[N / 4].re, z[0].re - y[0].re};
    unroll<(N / 8 > 1 ? N / 8 - 1 : 0)>([&](auto i) __attribute__((always_inline)) {
      constexpr int k = i + 1;
      const Complex<Real, L> a = y[k] * root_of_unity<Real, N, L>(k),
                             b = z[k] * root_of_unity<Real, N, L>(3 * k);
      const Complex<Real, L> s = a + b, d = a - b;
      const Complex<Real, L> v = u[N / 4 - k];
      out[k] = u[k] + s;
      out[N / 2 - k] = {u[k].re - s.re, s.im - u[k].im};
      out[N / 4 + k] = {v.re + d.im, -v.im - d.re};
      out[N / 4 - k] = {v.re - d.im, v.im - d.re};
    });
    if constexpr (N >= 8) {
      constexpr int k = N / 8;
      const Vec<Real, L> half = broadcast<L>(cosine<Real, 8>(1));
      const Vec<Real, L> s = y[k].re + z[k].re, d = y[k].re - z[k].re;
      out[k] = {fma(half, d, u[k].re), fnma(half, s, u[k].im)};
      out[3 * k] = {fnma(half, d, u[k].re), -fma(half, s, u[k].im)};
    }
  }
}

template <class Real, int L>
STREAMTAG_INLINE void dft4(Complex<Real, L>* x) {
  const Complex<Real, L> a = x[0] + x[2], b = x[0] - x[2], c = x[1] + x[3],
                         d = times_minus_i(x[1] - x[3]);
  x[0] = a + c;
  x[1] = b + d;
  x[2] = a - c;
  x[3] = b - d;
}

template <class Real, int L>
STREAMTAG_INLINE void dft8(Complex<Real, L>* x) {
  Complex<Real, L> even[4] = {x[0] + x[4], x[1] + x[5], x[2] + x[6], x[3] + x[7]};
  dft4(even);
  const Complex<Real, L> d0 = x[0] - x[4], d1 = x[1] - x[5], d2 = times_minus_i(x[2] - x[6]),
                         d3 = x[3] - x[7];
  // d1 and d3 times an odd eighth root of unity, still without its factor sqrt(1/2).
  const Complex<Real, L> e1 = {d1.re + d1.im, d1.im - d1.re}, e3 = {d3.im - d3.re, -d3.re - d3.im};
  const Complex<Real, L> a = d0 + d2, b = d0 - d2, c = e1 + e3, d = times_minus_i(e1 - e3);
  const Vec<Real, L> half = broadcast<L>(cosine<Real, 8>(1));
  x[0] = even[0];
  x[1] = {fma(half, c.re, a.re), fma(half, c.im, a.im)};
  x[2] = even[1];
  x[3] = {fma(half, d.re, b.re), fma(half, d.im, b.im)};
  x[4] = even[2];
  x[5] = {fnma(half, c.re, a.re), fnma(half, c.im, a.im)};
  x[6] = even[3];
  x[7] = {fnma(half, d.re, b.re), fnma(half, d.im, b.im)};
}

template <int Radix, class Real, int L>
STREAMTAG_INLINE void dft(Complex<Real, L>* x) {
  if constexpr (Radix == 4) dft4(x);
  if constexpr (Radix == 8) dft8(x);
}

/// The addresses of complex vectors: number n is at re + n·stride and im + n·stride.
template <class Real>
struct Row {
  Real* re;
  Real* im;
  int stride;
};

/// Working memory of one frame. `rows` holds the real and imaginary parts of L numbers side by
/// side.
template <class Real>
struct Scratch {
  Real* rows;           // (M, 2, L)
  Real* packed;         // (2M,)
  Real* packed_output;  // (2, M + L): real and imaginary parts of lane 0's outputs, in order
  Real* power;          // (bins,)
  Real* mels;           // (groups, G)

  Scratch(const Transform<Real>& tables, Real* memory)
      : rows(memory),
        packed(rows + tables.n_fft + tables.bins),
        packed_output(packed + 2 * tables.rows),
        power(rows + tables.n_fft),
        mels(packed_output + 2 * (tables.rows + tables.lanes)) {}

  template <int L>
  STREAMTAG_INLINE Row<Real> row() const {
    return {rows, rows + L, 2 * L};
  }
};

/// Steps 1 to 3: from the samples to rows of L numbers.
template <int L, class Real>
void first_stage(const Transform<Real>& tables, const float* samples,
                 const Scratch<Real>& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  const Real* window = tables.window;
  const Real* first_twiddles = tables.first_twiddles;
  Real* rows = scratch.rows;
  Real* packed = scratch.packed;
  for (int n = 0; n < m; n += L) {
    Vec<Real, L> x[R];
    unroll<R>([&](auto q) __attribute__((always_inline)) {
      x[q] = load_as<Real, L>(samples + n + q * m) * load<L>(window + q * L);
    });
    window += R * L;
    Complex<Real, L> y[L + 1];
    real_dft<R, 1, true>(x, y);
    store(packed + n, y[0].re);
    store(packed + m + n, y[L].re);
    Vec<Real, L> re[L], im[L];
    re[0] = im[0] = Vec<Real, L>{};
    unroll<L - 1>([&](auto p) __attribute__((always_inline)) {
      const Complex<Real, L> twiddle = {load<L>(first_twiddles + 2 * p * L),
                                        load<L>(first_twiddles + (2 * p + 1) * L)};
      const Complex<Real, L> product = y[p + 1] * twiddle;
      re[p + 1] = product.re;
      im[p + 1] = product.im;
    });
    first_twiddles += 2 * (L - 1) * L;
    transpose(re);
    unroll<L>([&](auto i) __attribute__((always_inline)) { store(rows + 2 * (n + i) * L, re[i]); });
    transpose(im);
    unroll<L>([&](auto i)
                  __attribute__((always_inline)) { store(rows + (2 * (n + i) + 1) * L, im[i]); });
  }
}

/// Numbers n, n + step, ... of the row. With `Packed`, lane 0 comes from the packed sequence.
template <int Radix, bool Packed, int L, class Real>
STREAMTAG_INLINE void load_strided(const Row<Real>& row, const Real* packed, int n, int step,
                                   Complex<Real, L>* x) {
  const Real* re = row.re + n * row.stride;
  const Real* im = row.im + n * row.stride;
  const int apart = step * row.stride;
  unroll<Radix>([&](auto q) __attribute__((always_inline)) {
    x[q] = {load<L>(re + q * apart), load<L>(im + q * apart)};
    if constexpr (Packed) {
      x[q].re = replace_first(x[q].re, packed + 2 * (n + q * step));
      x[q].im = replace_first(x[q].im, packed + 2 * (n + q * step) + 1);
    }
  });
}

/// One stage of step 4, in place: each transform of `size` numbers becomes `Radix` smaller ones.
template <int Radix, bool Packed, int L, class Real>
void middle_stage(const Transform<Real>& tables, int size, const Real* stage_twiddles,
                  const Row<Real>& row, const Real* packed) {
  const int m = tables.rows;
  const int step = size / Radix;
  const int apart = step * row.stride;
  for (int j = 0; j < step; ++j, stage_twiddles += 2 * (Radix - 1))
    for (int n = j; n < m; n += size) {
      Complex<Real, L> x[Radix];
      load_strided<Radix, Packed, L>(row, packed, n, step, x);
      dft<Radix>(x);
      Real* re = row.re + n * row.stride;
      Real* im = row.im + n * row.stride;
      store(re, x[0].re);
      store(im, x[0].im);
      unroll<Radix - 1>([&](auto i) __attribute__((always_inline)) {
        constexpr int q = i + 1;
        const Complex<Real, L> y = x[q] * Complex<Real, L>{broadcast<L>(stage_twiddles[2 * i]),
                                                           broadcast<L>(stage_twiddles[2 * i + 1])};
        store(re + q * apart, y.re);
        store(im + q * apart, y.im);
      });
    }
}

/// The last stage of step 4: each bin's power goes to its place, lane 0's numbers to their own.
template <int Radix, bool Packed, int L, class Real>
void last_stage(const Transform<Real>& tables, const Scratch<Real>& scratch) {
  constexpr int R = 2 * L;
  const int m = tables.rows;
  const int blocks = m / Radix;
  const std::int32_t* order = tables.order;
  Real* power = scratch.power;
  Real* packed_re = scratch.packed_output;
  Real* packed_im = scratch.packed_output + m + L;
  for (int block = 0; block < blocks; ++block) {
    Complex<Real, L> x[Radix];
    load_strided<Radix, Packed, L>(scratch.template row<L>(), scratch.packed, block * Radix, 1, x);
    dft<Radix>(x);
    unroll<Radix>([&](auto q) __attribute__((always_inline)) {
      const int k = order[block] + q * blocks;
      packed_re[k] = x[q].re[0];
      packed_im[k] = x[q].im[0];
      const Vec<Real, L> square = fma(x[q].re, x[q].re, x[q].im * x[q].im);
      if constexpr (q < Radix / 2)
        store(power + k * R, square);
      else
        store(power + (m - k) * R - (L - 1), shuffle<Reversed<L>>(square, square));
    });
  }
}

/// The powers of the bins that are multiples of L, from the outputs of lane 0.
template <int L, class Real>
void unpack_real(const Transform<Real>& tables, const Scratch<Real>& scratch) {
  const int m = tables.rows;
  const Real* twiddle_re = tables.unpack_twiddles;
  const Real* twiddle_im = twiddle_re + m;
  Real* re = scratch.packed_output;
  Real* im = re + m + L;
  Real* power = scratch.power;
  const Vec<Real, L> half = broadcast<L>(Real{0.5});
  re[m] = re[0];
  im[m] = im[0];
  const Real last = re[0] - im[0];
  Real bins[L];
  for (int j = 0; j < m; j += L) {
    const Complex<Real, L> z = {load<L>(re + j), load<L>(im + j)};
    const Vec<Real, L> mirror_re = load<L>(re + m - j - L + 1),
                       mirror_im = load<L>(im + m - j - L + 1);
    const Complex<Real, L> w = {shuffle<Reversed<L>>(mirror_re, mirror_re),
                                -shuffle<Reversed<L>>(mirror_im, mirror_im)};
    const Complex<Real, L> twiddle = {load<L>(twiddle_re + j), load<L>(twiddle_im + j)};
    const Complex<Real, L> c = (z + w) + times_minus_i(z - w) * twiddle;
    store(bins, half * half * fma(c.re, c.re, c.im * c.im));
    for (int i = 0; i < L; ++i) power[(j + i) * L] = bins[i];
  }
  power[m * L] = last * last;
}

/// All stages of step 4 but the last.
template <bool Packed, int L, class Real>
void middle_stages(const Transform<Real>& tables, const Row<Real>& row, const Real* packed) {
  int size = tables.rows;
  const Real* stage_twiddles = tables.stage_twiddles;
  for (int stage = 0; stage + 1 < tables.stages; ++stage) {
    const int radix = tables.radix[stage];
    if (stage == 0 && radix == 8)
      middle_stage<8, Packed, L>(tables, size, stage_twiddles, row, packed);
    else if (stage == 0)
      middle_stage<4, Packed, L>(tables, size, stage_twiddles, row, packed);
    else if (radix == 8)
      middle_stage<8, false, L>(tables, size, stage_twiddles, row, packed);
    else
      middle_stage<4, false, L>(tables, size, stage_twiddles, row, packed);
    size /= radix;
    stage_twiddles += 2 * (radix - 1) * size;
  }
}

template <bool Packed, int L, class Real>
STREAMTAG_INLINE void last_stage(const Transform<Real>& tables, const Scratch<Real>& scratch) {
  if (tables.radix[tables.stages - 1] == 8)
    last_stage<8, Packed, L>(tables, scratch);
  else
    last_stage<4, Packed, L>(tables, scratch);
}

/// Powers of the bins 0..N/2, followed by zeros up to `tables.bins`.
template <int L, class Real>
void power_spectrum(const Transform<Real>& tables, const float* samples,
                    const Scratch<Real>& scratch) {
  first_stage<L>(tables, samples, scratch);
  store(scratch.power + tables.rows * L, Vec<Real, L>{});
  middle_stages<true, L>(tables, scratch.template row<L>(), scratch.packed);
  if (tables.stages == 1)
    last_stage<true, L>(tables, scratch);
  else
    last_stage<false, L>(tables, scratch);
  unpack_real<L>(tables, scratch);
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
