#pragma once

// Vectors of L numbers, in the namespace of the instruction set that this file is compiled for. The
// numbers are floats, or doubles where STREAMTAG_DOUBLE is defined.

#include <cstdint>
#include <utility>
#if defined(__FMA__)
#include <immintrin.h>
#endif

#define STREAMTAG_INLINE __attribute__((always_inline)) inline

namespace streamtag::STREAMTAG_KERNEL {
namespace {

#if defined(STREAMTAG_DOUBLE)
using Real = double;
using Int = std::int64_t;
#else
using Real = float;
using Int = std::int32_t;
#endif

template <int L>
struct Lanes {
  typedef Real Reals __attribute__((vector_size(sizeof(Real) * L)));
  typedef Real Loose
      __attribute__((vector_size(sizeof(Real) * L), aligned(sizeof(Real)), may_alias));
  typedef float LooseFloats __attribute__((vector_size(4 * L), aligned(4), may_alias));
  typedef Int Ints __attribute__((vector_size(sizeof(Int) * L)));
};

template <int L>
using Vec = typename Lanes<L>::Reals;

template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(Real);

template <int L>
STREAMTAG_INLINE Vec<L> load(const Real* from) {
  return *reinterpret_cast<const typename Lanes<L>::Loose*>(from);
}

template <int L>
STREAMTAG_INLINE Vec<L> load_samples(const float* from) {
  return __builtin_convertvector(*reinterpret_cast<const typename Lanes<L>::LooseFloats*>(from),
                                 Vec<L>);
}

template <class V>
STREAMTAG_INLINE void store(Real* to, V v) {
  *reinterpret_cast<typename Lanes<kLanesOf<V>>::Loose*>(to) = v;
}

template <int L>
STREAMTAG_INLINE Vec<L> all(Real value) {
  return value - Vec<L>{};
}

// One rounding where the machine has fused multiply-add, two where not; never the compiler's
// choice, or the two would mix.
#if defined(__FMA__) && defined(STREAMTAG_DOUBLE)
STREAMTAG_INLINE Vec<4> fma(Vec<4> a, Vec<4> b, Vec<4> c) { return _mm256_fmadd_pd(a, b, c); }
STREAMTAG_INLINE Vec<4> fnma(Vec<4> a, Vec<4> b, Vec<4> c) { return _mm256_fnmadd_pd(a, b, c); }
#if defined(__AVX512F__)
STREAMTAG_INLINE Vec<8> fma(Vec<8> a, Vec<8> b, Vec<8> c) { return _mm512_fmadd_pd(a, b, c); }
STREAMTAG_INLINE Vec<8> fnma(Vec<8> a, Vec<8> b, Vec<8> c) { return _mm512_fnmadd_pd(a, b, c); }
#endif
#elif defined(__FMA__)
STREAMTAG_INLINE Vec<4> fma(Vec<4> a, Vec<4> b, Vec<4> c) { return _mm_fmadd_ps(a, b, c); }
STREAMTAG_INLINE Vec<8> fma(Vec<8> a, Vec<8> b, Vec<8> c) { return _mm256_fmadd_ps(a, b, c); }
STREAMTAG_INLINE Vec<4> fnma(Vec<4> a, Vec<4> b, Vec<4> c) { return _mm_fnmadd_ps(a, b, c); }
STREAMTAG_INLINE Vec<8> fnma(Vec<8> a, Vec<8> b, Vec<8> c) { return _mm256_fnmadd_ps(a, b, c); }
#if defined(__AVX512F__)
STREAMTAG_INLINE Vec<16> fma(Vec<16> a, Vec<16> b, Vec<16> c) { return _mm512_fmadd_ps(a, b, c); }
STREAMTAG_INLINE Vec<16> fnma(Vec<16> a, Vec<16> b, Vec<16> c) { return _mm512_fnmadd_ps(a, b, c); }
#endif
#else
template <class V>
STREAMTAG_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
template <class V>
STREAMTAG_INLINE V fnma(V a, V b, V c) {
  return c - a * b;
}
#endif

/// v with `*first` in lane 0.
template <class V>
STREAMTAG_INLINE V with_first(V v, const Real* first) {
#if defined(__AVX512F__) && !defined(STREAMTAG_DOUBLE)
  if constexpr (sizeof(V) == 64) return _mm512_mask_broadcastss_ps(v, 1, _mm_load_ss(first));
#endif
#if defined(__AVX2__) && !defined(STREAMTAG_DOUBLE)
  if constexpr (sizeof(V) == 32) return _mm256_blend_ps(v, _mm256_broadcast_ss(first), 1);
#endif
  v[0] = *first;
  return v;
}

template <class V>
STREAMTAG_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

/// Calls f(integral_constant 0), ..., f(integral_constant N-1).
template <int N, class F>
STREAMTAG_INLINE void unroll(F f) {
  [&]<int... I>(std::integer_sequence<int, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

template <int... I, class V>
STREAMTAG_INLINE V pick(std::integer_sequence<int, I...>, V a, V b) {
  return __builtin_shufflevector(a, b, I...);
}

/// Elements of a and b (counted from L there) that `Rule::at(i)` names.
template <class Rule, class V, int... I>
STREAMTAG_INLINE V shuffled(V a, V b, std::integer_sequence<int, I...>) {
  return pick(std::integer_sequence<int, Rule::at(I)...>{}, a, b);
}

/// Within each quarter of 4: the first (Half 0) or last two of a and b, alternating by `Width`.
template <int L, int Width, int Half>
struct Unpack {
  static constexpr int at(int i) {
    const int inside = i % 4;
    const int element = 2 * Half + (Width == 1 ? inside / 2 : inside % 2);
    const int source = Width == 1 ? inside % 2 : inside / 2;
    return source * L + i / 4 * 4 + element;
  }
};

/// The even (Odd 0) or odd quarters of a, then those of b.
template <int L, int Odd>
struct Quarters {
  static constexpr int at(int i) {
    const int quarter = i / 4 * 2 + Odd;  // of a and b laid end to end
    return quarter * 4 + i % 4;
  }
};

template <int L>
struct Reversed {
  static constexpr int at(int i) { return L - 1 - i; }
};

template <class Rule, class V>
STREAMTAG_INLINE V shuffle(V a, V b) {
  return shuffled<Rule>(a, b, std::make_integer_sequence<int, kLanesOf<V>>{});
}

template <int Distance>
struct Swapped {
  static constexpr int at(int i) { return i ^ Distance; }
};

/// All lanes joined by `join`, halves first, in every lane.
template <int L, class V, class F>
STREAMTAG_INLINE V folded(V v, F join) {
  if constexpr (L > 1) {
    v = folded<L / 2>(join(v, shuffle<Swapped<L / 2>>(v, v)), join);
  }
  return v;
}

/// Transposes L vectors of L.
template <int L>
STREAMTAG_INLINE void transpose(Vec<L>* row) {
  unroll<L / 4>([&](auto g) __attribute__((always_inline)) {
    Vec<L>* r = row + 4 * g;
    const Vec<L> a = shuffle<Unpack<L, 1, 0>>(r[0], r[1]), b = shuffle<Unpack<L, 1, 1>>(r[0], r[1]);
    const Vec<L> c = shuffle<Unpack<L, 1, 0>>(r[2], r[3]), d = shuffle<Unpack<L, 1, 1>>(r[2], r[3]);
    r[0] = shuffle<Unpack<L, 2, 0>>(a, c);
    r[1] = shuffle<Unpack<L, 2, 1>>(a, c);
    r[2] = shuffle<Unpack<L, 2, 0>>(b, d);
    r[3] = shuffle<Unpack<L, 2, 1>>(b, d);
  });
  if constexpr (L == 8) {
    unroll<4>([&](auto c) __attribute__((always_inline)) {
      const Vec<L> a = row[c], b = row[c + 4];
      row[c] = shuffle<Quarters<L, 0>>(a, b);
      row[c + 4] = shuffle<Quarters<L, 1>>(a, b);
    });
  }
  if constexpr (L == 16) {
    unroll<4>([&](auto c) __attribute__((always_inline)) {
      const Vec<L> a = row[c], b = row[c + 4], d = row[c + 8], e = row[c + 12];
      const Vec<L> even0 = shuffle<Quarters<L, 0>>(a, b), odd0 = shuffle<Quarters<L, 1>>(a, b);
      const Vec<L> even1 = shuffle<Quarters<L, 0>>(d, e), odd1 = shuffle<Quarters<L, 1>>(d, e);
      row[c] = shuffle<Quarters<L, 0>>(even0, even1);
      row[c + 4] = shuffle<Quarters<L, 0>>(odd0, odd1);
      row[c + 8] = shuffle<Quarters<L, 1>>(even0, even1);
      row[c + 12] = shuffle<Quarters<L, 1>>(odd0, odd1);
    });
  }
}

/// The sums of the lanes of L vectors, as one vector.
template <int L>
STREAMTAG_INLINE Vec<L> sums(Vec<L>* row) {
  unroll<L / 4>([&](auto g) __attribute__((always_inline)) {
    const Vec<L>* r = row + 4 * g;
    const Vec<L> a = shuffle<Unpack<L, 1, 0>>(r[0], r[1]) + shuffle<Unpack<L, 1, 1>>(r[0], r[1]);
    const Vec<L> b = shuffle<Unpack<L, 1, 0>>(r[2], r[3]) + shuffle<Unpack<L, 1, 1>>(r[2], r[3]);
    row[g] = shuffle<Unpack<L, 2, 0>>(a, b) + shuffle<Unpack<L, 2, 1>>(a, b);
  });
  if constexpr (L == 8)
    row[0] = shuffle<Quarters<L, 0>>(row[0], row[1]) + shuffle<Quarters<L, 1>>(row[0], row[1]);
  if constexpr (L == 16) {
    const Vec<L> a =
        shuffle<Quarters<L, 0>>(row[0], row[1]) + shuffle<Quarters<L, 1>>(row[0], row[1]);
    const Vec<L> b =
        shuffle<Quarters<L, 0>>(row[2], row[3]) + shuffle<Quarters<L, 1>>(row[2], row[3]);
    row[0] = shuffle<Quarters<L, 0>>(a, b) + shuffle<Quarters<L, 1>>(a, b);
  }
  return row[0];
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
