// Functions of CUDA's device code that have no counterpart of the same name in <cmath>: fast
// mathematics (here exact), bits of floats, integer instructions, cached loads, atomics.
#pragma once
#include <math.h>  // isfinite and others in the global namespace too

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "tensor/simt/engine.h"
#include "tensor/simt/shared_shadow.h"

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __exp10f(float x) { return std::pow(10.0f, x); }
inline float __logf(float x) { return std::log(x); }
inline float __log2f(float x) { return std::log2(x); }
inline float __sinf(float x) { return std::sin(x); }
inline float __cosf(float x) { return std::cos(x); }
inline float __powf(float x, float y) { return std::pow(x, y); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __frsqrt_rn(float x) { return 1.0f / std::sqrt(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) {
  volatile float product = x * y;  // never fused with an addition
  return product;
}
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) {
  volatile double product = x * y;
  return product;
}
inline float __fmaf_rn(float x, float y, float z) { return std::fma(x, y, z); }
inline float __saturatef(float x) { return std::fmin(std::fmax(x, 0.0f), 1.0f); }
inline float sinpif(float x) { return static_cast<float>(std::sin(M_PI * double{x})); }
inline float cospif(float x) { return static_cast<float>(std::cos(M_PI * double{x})); }
inline double sinpi(double x) { return std::sin(M_PI * x); }
inline double cospi(double x) { return std::cos(M_PI * x); }
inline void __sincosf(float x, float* s, float* c) { *s = std::sin(x), *c = std::cos(x); }

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(std::floor(x)); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(static_cast<unsigned>(x)) + 1 : 0; }
inline unsigned __umulhi(unsigned x, unsigned y) {
  return static_cast<unsigned>((uint64_t{x} * y) >> 32);
}
inline int __mulhi(int x, int y) { return static_cast<int>((int64_t{x} * y) >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return static_cast<unsigned long long>((static_cast<unsigned __int128>(x) * y) >> 64);
}
// Four products of signed bytes, added to c.
inline int __dp4a(int a, int b, int c) {
  for (int bit = 0; bit < 32; bit += 8)
    c += static_cast<int8_t>(a >> bit) * static_cast<int8_t>(b >> bit);
  return c;
}
inline unsigned __brev(unsigned x) {
  unsigned y = 0;
  for (int bit = 0; bit < 32; ++bit) y |= ((x >> bit) & 1u) << (31 - bit);
  return y;
}

// CUDA's overloads in the global namespace; mixed types meet in the common type.
template <typename A, typename B>
requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmin(T(a), T(b));
  return T(b) < T(a) ? T(b) : T(a);
}
template <typename A, typename B>
requires std::is_arithmetic_v<A> && std::is_arithmetic_v<B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>) return std::fmax(T(a), T(b));
  return T(a) < T(b) ? T(b) : T(a);
}

template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
void __stcs(T* p, const T& value) {
  *p = value;
}
template <typename T>
void __stcg(T* p, const T& value) {
  *p = value;
}

// One thread runs at a time, so that an atomic is an ordinary update; to the shadow of shared
// memory it is one access.
template <typename T, typename Update>
__attribute__((no_sanitize("thread"))) T atomic_update(T* p, Update update) {
  if (mullion::simt::shared_span.holds(p))
    mullion::simt::touch_shared(p, sizeof(T), mullion::simt::Access::atomic);
  const T old = *p;
  *p = update(old);
  return old;
}
template <typename T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return static_cast<T>(old + value); });
}
template <typename T>
T atomicSub(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return static_cast<T>(old - value); });
}
template <typename T>
T atomicMax(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return old < value ? value : old; });
}
template <typename T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return value < old ? value : old; });
}
template <typename T>
T atomicOr(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return static_cast<T>(old | value); });
}
template <typename T>
T atomicAnd(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return static_cast<T>(old & value); });
}
template <typename T>
T atomicExch(T* p, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T) { return value; });
}
template <typename T>
T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return atomic_update(p, [=](T old) { return old == expected ? value : old; });
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return atomic_update(p, [=](unsigned old) { return old >= limit ? 0 : old + 1; });
}

inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() { mullion::simt::report("the kernel called __trap()"); }
