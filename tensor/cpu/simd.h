// Short float vectors of the CPU kernels, on the vector extensions that GCC and Clang share, as
// wide as the machine's registers: loads, 2^x and log2 x by polynomials, and a transpose in
// registers.
#pragma once
#include <bit>
#include <cstdint>
#include <utility>
#if defined(__AVX512DQ__)
#include <immintrin.h>
#endif

#if defined(__clang__)
#define MULLION_UNROLL _Pragma("unroll")
#else
#define MULLION_UNROLL _Pragma("GCC unroll 32")
#endif
#define MULLION_INLINE inline __attribute__((always_inline))

namespace mullion::simd {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRegisters = 32;
#elif defined(__AVX__)
constexpr int kLanes = 8, kRegisters = 16;
#else
constexpr int kLanes = 4, kRegisters = 16;
#endif

template <int N>
struct VectorOf {
  typedef float Float __attribute__((vector_size(N * sizeof(float))));
  typedef int32_t Int __attribute__((vector_size(N * sizeof(int32_t))));
  typedef uint32_t Bits __attribute__((vector_size(N * sizeof(uint32_t))));
  // As it lies in memory, at any address of a float.
  typedef float Stored __attribute__((vector_size(N * sizeof(float)), aligned(4), may_alias));
};
template <int N>
using Vector = typename VectorOf<N>::Float;
using Vec = Vector<kLanes>;

template <class V>
constexpr int lanes_of = static_cast<int>(sizeof(V) / sizeof(float));

template <class V = Vec>
MULLION_INLINE V load(const float* p) {
  return *reinterpret_cast<const typename VectorOf<lanes_of<V>>::Stored*>(p);
}
template <class V>
MULLION_INLINE void store(float* p, V v) {
  *reinterpret_cast<typename VectorOf<lanes_of<V>>::Stored*>(p) = v;
}
template <class V = Vec>
MULLION_INLINE V splat(float s) {
  return s - V{};  // s - 0 is s, also for -0
}
template <class V>
MULLION_INLINE V max(V a, V b) {
  return a > b ? a : b;
}

// 2^x to 2 ulp for x in [-126, 127], NaN for NaN, anything for another x: with n the integer next
// to x it is 2^n times a polynomial in x - n. AVX-512 has an instruction for the difference and one
// for the scaling (in their masked forms, as GCC 12 takes the others' unset operand for an error);
// elsewhere the sum with 1.5 * 2^23 rounds x to n, whose bits are shifted into the exponent.
template <class V = Vec>
MULLION_INLINE V exp2_in_range(V x) {
  using Bits = typename VectorOf<lanes_of<V>>::Bits;
  const auto polynomial = [](V f) {
    V p = 1.5453163e-4f * f + 1.3390863e-3f;  // (2^f - 1) / f, interpolated at Chebyshev nodes
    p = p * f + 9.6180826e-3f;
    p = p * f + 5.5503571e-2f;
    p = p * f + 2.4022651e-1f;
    p = p * f + 6.9314719e-1f;
    return p * f + 1.0f;
  };
#if defined(__AVX512DQ__)
  if constexpr (lanes_of<V> == 16) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    const V f = _mm512_mask_reduce_ps(x, 0xffff, x, kNearest);
    return _mm512_mask_scalef_ps(x, 0xffff, polynomial(f), x - f);
  }
#endif
  constexpr float kRound = 12582912.0f;
  const V shifted = x + kRound;
  const V p = polynomial(x - (shifted - kRound));
  return std::bit_cast<V>(std::bit_cast<Bits>(p) + (std::bit_cast<Bits>(shifted) << 23));
}

// The same with 2^-120 for a smaller x, also for -infinity.
template <class V = Vec>
MULLION_INLINE V exp2(V x) {
  return exp2_in_range(x < -120.0f ? splat<V>(-120.0f) : x);
}

// log2 x for normal x > 0: x = m 2^e with m in [sqrt(1/2), sqrt(2)), log m = 2 atanh((m-1)/(m+1)).
template <class V = Vec>
MULLION_INLINE V log2(V x) {
  using Int = typename VectorOf<lanes_of<V>>::Int;
  using Bits = typename VectorOf<lanes_of<V>>::Bits;
  const Bits bits = std::bit_cast<Bits>(x);
  const Int e = std::bit_cast<Int>(bits - 0x3f3504f3u) >> 23;  // 0x3f3504f3: sqrt(1/2)
  const V m = std::bit_cast<V>(bits - (std::bit_cast<Bits>(e) << 23));
  const V s = (m - 1.0f) / (m + 1.0f), z = s * s;
  V p = 0.32059890f * z + 0.41219858f;  // (2 / ln 2) / 9, / 7, / 5, / 3
  p = p * z + 0.57707802f;
  p = p * z + 0.96179669f;
  p = p * z + 2.88539008f;
  return __builtin_convertvector(e, V) + p * s;
}

template <class V>
MULLION_INLINE float sum(V v) {
  float total = 0;
  MULLION_UNROLL for (int i = 0; i < lanes_of<V>; ++i) total += v[i];
  return total;
}

namespace detail {
// Exchanges the off-diagonal blocks of size S of the rows a and b = a + S of a tile.
template <int S, class V, int... I>
MULLION_INLINE void exchange(V& a, V& b, std::integer_sequence<int, I...>) {
  constexpr int N = sizeof...(I);
  const V low = __builtin_shufflevector(a, b, ((I & S) ? N + I - S : I)...);
  const V high = __builtin_shufflevector(a, b, ((I & S) ? N + I : I + S)...);
  a = low;
  b = high;
}
template <int S, class V>
MULLION_INLINE void transpose_step(V (&rows)[lanes_of<V>]) {
  constexpr int N = lanes_of<V>;
  if constexpr (S > 0) {
    MULLION_UNROLL for (int i = 0; i < N; ++i) {
      if (!(i & S)) exchange<S>(rows[i], rows[i + S], std::make_integer_sequence<int, N>());
    }
    transpose_step<S / 2>(rows);
  }
}
}  // namespace detail

// Transposes a square tile held in registers.
template <class V>
MULLION_INLINE void transpose(V (&rows)[lanes_of<V>]) {
  detail::transpose_step<lanes_of<V> / 2>(rows);
}

}  // namespace mullion::simd
