// The softmax over taps of MSA-Conv and its backward, in place on a band's planes. Logits are in
// units of log 2, so that the exponential is 2^x. f32 goes by vectors of positions, f64 one by one.
#pragma once
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "tensor/cpu/msa_conv_plan.h"
#include "tensor/cpu/simd.h"

namespace mullion::cpu {

constexpr double kLog2e = 1.4426950408889634, kLn2 = 0.6931471805599453;

namespace detail {
template <typename T>
struct SoftmaxLanes {  // f64: a "vector" of one
  using V = double;
  static constexpr int kWidth = 1;
  static V load(const T* p) { return *p; }
  static void store(T* p, V v) { *p = v; }
  static V splat(double s) { return s; }
  static V max(V a, V b) { return std::max(a, b); }
  static V exp2(V x) { return std::exp2(x); }
  static V log2(V x) { return std::log2(x); }
};
template <>
struct SoftmaxLanes<float> {
  using V = simd::Vec;
  static constexpr int kWidth = simd::kLanes;
  static MULLION_INLINE V load(const float* p) { return simd::load(p); }
  static MULLION_INLINE void store(float* p, V v) { simd::store(p, v); }
  static MULLION_INLINE V splat(double s) { return simd::splat<V>(static_cast<float>(s)); }
  static MULLION_INLINE V max(V a, V b) { return simd::max(a, b); }
  static MULLION_INLINE V exp2(V x) { return simd::exp2(x); }
  static MULLION_INLINE V log2(V x) { return simd::log2(x); }
};
}  // namespace detail

// logits (taps, query_plane) become unnormalised weights 2^(l - max). inverse = 1 / their sum and
// lse = ln of the sum of 2^l, both (query_plane). border (key_plane) is added to the logits, or
// null.
template <typename T>
void softmax_over_taps(const MsaPlan& plan, int64_t n, const T* border, T* logits, T* inverse,
                       T* lse) {
  using S = detail::SoftmaxLanes<T>;
  using V = typename S::V;
  const int64_t taps = plan.g.taps(), plane = plan.query_plane;
  for (int64_t p = plan.guard; p < plan.guard + n; p += S::kWidth) {
    V top = S::splat(-1e30);  // finite, for the rare query that sees no key at all
    for (int64_t t = 0; t < taps; ++t) {
      V l = S::load(logits + t * plane + p);
      if (border) {
        l += S::load(border + plan.key_offset(t) + p - plan.guard);
        S::store(logits + t * plane + p, l);
      }
      top = S::max(top, l);
    }
    V sum = S::splat(0);
    for (int64_t t = 0; t < taps; ++t) {
      const V e = S::exp2(S::load(logits + t * plane + p) - top);
      S::store(logits + t * plane + p, e);
      sum += e;
    }
    // That query's sum is 0 in f64 (and tiny in f32, where 2^-infinity is 2^-120).
    sum = S::max(sum, S::splat(1e-37));
    S::store(inverse + p, S::splat(1) / sum);
    S::store(lse + p, (top + S::log2(sum)) * S::splat(kLn2));
  }
}

// On entry logits l and products a = <dO, v>; on return logits = m P, the weights of dV, and
// products = scale P (m a - D), the weights of dQ and dK, with P = 2^(l - lse log2 e), m the
// dropout's factors (taps, query_plane) or null for 1, and D = <dO, O> (query_plane).
template <typename T>
void softmax_backward_over_taps(const MsaPlan& plan, int64_t n, const T* border, const T* factors,
                                const T* lse, const T* dot, T* logits, T* products) {
  using S = detail::SoftmaxLanes<T>;
  using V = typename S::V;
  const int64_t taps = plan.g.taps(), plane = plan.query_plane;
  const V scale = S::splat(plan.g.scale);
  for (int64_t p = plan.guard; p < plan.guard + n; p += S::kWidth) {
    const V top = S::load(lse + p) * S::splat(kLog2e), d = S::load(dot + p);
    for (int64_t t = 0; t < taps; ++t) {
      const int64_t at = t * plane + p;
      V l = S::load(logits + at);
      if (border) l += S::load(border + plan.key_offset(t) + p - plan.guard);
      V weight = S::exp2(l - top), a = S::load(products + at);
      if (factors) a *= S::load(factors + at);
      S::store(products + at, scale * weight * (a - d));
      if (factors) weight *= S::load(factors + at);
      S::store(logits + at, weight);
    }
  }
}

}  // namespace mullion::cpu
