// The vectors of simd.h with the element type as a parameter, for kernels that run in f32 and, for
// gradient checks, in f64.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/cpu/simd.h"

namespace mullion::cpu {

inline constexpr int kVectorBytes = 4 * simd::kLanes;
inline constexpr bool kManyRegisters = simd::kRegisters >= 32;

template <typename T>
struct Simd;
template <>
struct Simd<float> {
  typedef float Vec __attribute__((vector_size(kVectorBytes)));
  typedef int32_t Int __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / 4;
};
template <>
struct Simd<double> {
  typedef double Vec __attribute__((vector_size(kVectorBytes)));
  typedef int64_t Int __attribute__((vector_size(kVectorBytes)));
  static constexpr int kLanes = kVectorBytes / 8;
};
template <typename T>
using Vec = typename Simd<T>::Vec;
template <typename T>
inline constexpr int kLanes = Simd<T>::kLanes;

// n rounded up to whole vectors.
template <typename T>
constexpr int64_t padded(int64_t n) {
  return (n + kLanes<T> - 1) / kLanes<T> * kLanes<T>;
}

template <typename T>
[[gnu::always_inline]] inline Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
template <typename T>
[[gnu::always_inline]] inline void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof v);
}
template <typename T>
[[gnu::always_inline]] inline Vec<T> splat(T x) {
  return x - Vec<T>{};  // folds to a broadcast: x - 0 is x, of whatever sign
}

// The sum over the lanes of a vector of kCount elements, by halves.
template <typename T, int kCount, typename V>
[[gnu::always_inline]] inline T sum_of(V v) {
  if constexpr (kCount == 2) {
    return v[0] + v[1];
  } else {
    typedef T Half __attribute__((vector_size(kCount / 2 * sizeof(T))));
    Half half[2];
    std::memcpy(half, &v, sizeof v);
    return sum_of<T, kCount / 2>(Half(half[0] + half[1]));
  }
}

// The dot product of two rows.
template <typename T>
[[gnu::always_inline]] inline T dot(const T* a, const T* b, int64_t n) {
  Vec<T> sum{};
  int64_t i = 0;
  for (; i + kLanes<T> <= n; i += kLanes<T>) sum += load<T>(a + i) * load<T>(b + i);
  T total = sum_of<T, kLanes<T>>(sum);
  for (; i < n; ++i) total += a[i] * b[i];
  return total;
}

// 2^x for x <= 127; 0 below 2^-120, and NaN for NaN.
[[gnu::always_inline]] inline Vec<float> exp2_of(Vec<float> x) {
  return x < -120.0f ? Vec<float>{} : simd::exp2_in_range(x);
}
[[gnu::always_inline]] inline Vec<double> exp2_of(Vec<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::exp2(x[i]);
  return x;
}

}  // namespace mullion::cpu
