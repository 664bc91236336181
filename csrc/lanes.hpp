#pragma once

// Vectors of L numbers, in the namespace of the instruction set that this file is compiled for.

#include <cstdint>
#include <type_traits>
#include <utility>
#if defined(__FMA__)
#include <immintrin.h>
#endif

#define STREAMTAG_INLINE __attribute__((always_inline)) inline

namespace streamtag::STREAMTAG_KERNEL {
namespace {

template <class T, int L>
struct Lanes {
  typedef T Vector __attribute__((vector_size(sizeof(T) * L)));
  typedef T Unaligned __attribute__((vector_size(sizeof(T) * L), aligned(sizeof(T)), may_alias));
};

template <class T, int L>
using Vec = typename Lanes<T, L>::Vector;

template <class V>
constexpr int kLanesOf = sizeof(V) / sizeof(std::declval<V>()[0]);

template <int L, class T>
STREAMTAG_INLINE Vec<T, L> load(const T* from) {
  return *reinterpret_cast<const typename Lanes<T, L>::Unaligned*>(from);
}

/// L floats as numbers of type `T`.
template <class T, int L>
STREAMTAG_INLINE Vec<T, L> load_as(const float* from) {
  return __builtin_convertvector(load<L>(from), Vec<T, L>);
}

template <class T, class V>
STREAMTAG_INLINE void store(T* to, V v) {
  *reinterpret_cast<typename Lanes<T, kLanesOf<V>>::Unaligned*>(to) = v;
}

template <int L, class T>
STREAMTAG_INLINE Vec<T, L> broadcast(T value) {
  return value - Vec<T, L>{};
}

// fma(a, b, c) is a*b + c and fnma(a, b, c) is c - a*b. They round once where the machine has fused
// multiply-add and twice where it has not. The compiler must not choose, or the two would mix.
#if defined(__FMA__)
#define STREAMTAG_FMA(T, L, prefix, suffix)                                \
  STREAMTAG_INLINE Vec<T, L> fma(Vec<T, L> a, Vec<T, L> b, Vec<T, L> c) {  \
    return prefix##_fmadd_##suffix(a, b, c);                               \
  }                                                                        \
  STREAMTAG_INLINE Vec<T, L> fnma(Vec<T, L> a, Vec<T, L> b, Vec<T, L> c) { \
    return prefix##_fnmadd_##suffix(a, b, c);                              \
  }
STREAMTAG_FMA(float, 4, _mm, ps)
STREAMTAG_FMA(float, 8, _mm256, ps)
STREAMTAG_FMA(double, 4, _mm256, pd)
#if defined(__AVX512F__)
STREAMTAG_FMA(float, 16, _mm512, ps)
STREAMTAG_FMA(double, 8, _mm512, pd)
#endif
#undef STREAMTAG_FMA
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
template <class V, class T>
STREAMTAG_INLINE V replace_first(V v, const T* first) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float> && sizeof(V) == 64)
    return _mm512_mask_broadcastss_ps(v, 1, _mm_load_ss(first));
#endif
#if defined(__AVX2__)
  if constexpr (std::is_same_v<T, float> && sizeof(V) == 32)
    return _mm256_blend_ps(v, _mm256_broadcast_ss(first), 1);
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

/// All lanes combined by `join`, halves first; the result is in every lane.
template <int L, class V, class F>
STREAMTAG_INLINE V reduce(V v, F join) {
  if constexpr (L > 1) {
    v = reduce<L / 2>(join(v, shuffle<Swapped<L / 2>>(v, v)), join);
  }
  return v;
}

/// Transposes L vectors of L.
template <class V>
STREAMTAG_INLINE void transpose(V* row) {
  constexpr int L = kLanesOf<V>;
  unroll<L / 4>([&](auto g) __attribute__((always_inline)) {
    V* r = row + 4 * g;
    const V a = shuffle<Unpack<L, 1, 0>>(r[0], r[1]), b = shuffle<Unpack<L, 1, 1>>(r[0], r[1]);
    const V c = shuffle<Unpack<L, 1, 0>>(r[2], r[3]), d = shuffle<Unpack<L, 1, 1>>(r[2], r[3]);
    r[0] = shuffle<Unpack<L, 2, 0>>(a, c);
    r[1] = shuffle<Unpack<L, 2, 1>>(a, c);
    r[2] = shuffle<Unpack<L, 2, 0>>(b, d);
    r[3] = shuffle<Unpack<L, 2, 1>>(b, d);
  });
  if constexpr (L == 8) {
    unroll<4>([&](auto c) __attribute__((always_inline)) {
      const V a = row[c], b = row[c + 4];
      row[c] = shuffle<Quarters<L, 0>>(a, b);
      row[c + 4] = shuffle<Quarters<L, 1>>(a, b);
    });
  }
  if constexpr (L == 16) {
    unroll<4>([&](auto c) __attribute__((always_inline)) {
      const V a = row[c], b = row[c + 4], d = row[c + 8], e = row[c + 12];
      const V even0 = shuffle<Quarters<L, 0>>(a, b), odd0 = shuffle<Quarters<L, 1>>(a, b);
      const V even1 = shuffle<Quarters<L, 0>>(d, e), odd1 = shuffle<Quarters<L, 1>>(d, e);
      row[c] = shuffle<Quarters<L, 0>>(even0, even1);
      row[c + 4] = shuffle<Quarters<L, 0>>(odd0, odd1);
      row[c + 8] = shuffle<Quarters<L, 1>>(even0, even1);
      row[c + 12] = shuffle<Quarters<L, 1>>(odd0, odd1);
    });
  }
}

/// The sum of the lanes of each of L vectors, as one vector.
template <class V>
STREAMTAG_INLINE V horizontal_sums(V* row) {
  constexpr int L = kLanesOf<V>;
  unroll<L / 4>([&](auto g) __attribute__((always_inline)) {
    const V* r = row + 4 * g;
    const V a = shuffle<Unpack<L, 1, 0>>(r[0], r[1]) + shuffle<Unpack<L, 1, 1>>(r[0], r[1]);
    const V b = shuffle<Unpack<L, 1, 0>>(r[2], r[3]) + shuffle<Unpack<L, 1, 1>>(r[2], r[3]);
    row[g] = shuffle<Unpack<L, 2, 0>>(a, b) + shuffle<Unpack<L, 2, 1>>(a, b);
  });
  if constexpr (L == 8)
    row[0] = shuffle<Quarters<L, 0>>(row[0], row[1]) + shuffle<Quarters<L, 1>>(row[0], row[1]);
  if constexpr (L == 16) {
    const V a = shuffle<Quarters<L, 0>>(row[0], row[1]) + shuffle<Quarters<L, 1>>(row[0], row[1]);
    const V b = shuffle<Quarters<L, 0>>(row[2], row[3]) + shuffle<Quarters<L, 1>>(row[2], row[3]);
    row[0] = shuffle<Quarters<L, 0>>(a, b) + shuffle<Quarters<L, 1>>(a, b);
  }
  return row[0];
}

}  // namespace
}  // namespace streamtag::STREAMTAG_KERNEL
