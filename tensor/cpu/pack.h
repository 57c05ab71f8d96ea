// Pack: a register full of floats or doubles, on the compilers' vector extension, so that kernels
// are written once for every width: 64 bytes with AVX-512, 32 with AVX, 16 otherwise. It offers
// what the functors of tensor/elementwise.h ask of an array type; its mathematical functions are in
// vector_math.h. A tail shorter than a register is loaded into a padded one.
#pragma once
#include <cstdint>
#include <cstring>
#include <utility>

#include "tensor/dtype.h"

namespace mullion::cpu {

#if defined(__AVX512F__)
constexpr int kPackBytes = 64;
#elif defined(__AVX__)
constexpr int kPackBytes = 32;
#else
constexpr int kPackBytes = 16;
#endif

template <typename T>
struct RawVectors;
template <>
struct RawVectors<float> {
  typedef float Raw __attribute__((vector_size(kPackBytes)));
  typedef int32_t RawInt __attribute__((vector_size(kPackBytes)));
};
template <>
struct RawVectors<double> {
  typedef double Raw __attribute__((vector_size(kPackBytes)));
  typedef int64_t RawInt __attribute__((vector_size(kPackBytes)));
};

template <typename T>
struct Pack {
  using Scalar = T;
  using Raw = typename RawVectors<T>::Raw;
  using RawInt = typename RawVectors<T>::RawInt;
  static constexpr int kLanes = kPackBytes / static_cast<int>(sizeof(T));

  struct Mask {
    RawInt m;
    Pack select(const Pack& yes, const Pack& no) const { return Pack(m ? yes.v : no.v); }
  };

  Raw v;

  Pack() = default;
  explicit Pack(Raw raw) : v(raw) {}
  Pack(T scalar) : v(scalar - Raw{}) {}  // NOLINT: scalars mix with packs in formulas
  static Pack Zero() { return Pack(Raw{}); }

  static Pack load(const T* p) {
    Pack x;
    std::memcpy(&x.v, p, sizeof x.v);
    return x;
  }
  // The first `count` lanes from p, `fill` in the others.
  static Pack load(const T* p, int64_t count, T fill = T(0)) {
    Pack x(fill);
    for (int64_t i = 0; i < count; ++i) x.v[i] = p[i];
    return x;
  }
  // bf16 elements, widened.
  static Pack load(const bf16* p) {
    static_assert(sizeof(T) == 4);
    typedef uint16_t Halves __attribute__((vector_size(kPackBytes / 2)));
    typedef uint32_t Words __attribute__((vector_size(kPackBytes)));
    Halves halves;
    std::memcpy(&halves, p, sizeof halves);
    return Pack(reinterpret_cast<Raw>(__builtin_convertvector(halves, Words) << 16));
  }
  static Pack load(const bf16* p, int64_t count) {
    Pack x = Zero();
    for (int64_t i = 0; i < count; ++i) x.v[i] = static_cast<float>(p[i]);
    return x;
  }
  void store(T* p) const { std::memcpy(p, &v, sizeof v); }
  void store(T* p, int64_t count) const {
    for (int64_t i = 0; i < count; ++i) p[i] = v[i];
  }

  friend Pack operator+(const Pack& a, const Pack& b) { return Pack(a.v + b.v); }
  friend Pack operator-(const Pack& a, const Pack& b) { return Pack(a.v - b.v); }
  friend Pack operator*(const Pack& a, const Pack& b) { return Pack(a.v * b.v); }
  friend Pack operator/(const Pack& a, const Pack& b) { return Pack(a.v / b.v); }
  Pack operator-() const { return Pack(-v); }
  Pack& operator+=(const Pack& b) {
    v += b.v;
    return *this;
  }
  friend Mask operator<(const Pack& a, const Pack& b) { return {a.v < b.v}; }
  friend Mask operator<=(const Pack& a, const Pack& b) { return {a.v <= b.v}; }
  // The larger of each lane; a NaN in `a` stays.
  friend Pack max(const Pack& a, const Pack& b) { return Pack(a.v < b.v ? b.v : a.v); }
  friend Pack min(const Pack& a, const Pack& b) { return Pack(b.v < a.v ? b.v : a.v); }
  friend Pack abs(const Pack& a) { return Pack(a.v < Raw{} ? -a.v : a.v + Raw{}); }

  // Sum and largest of the lanes, by halves: a fixed order.
  T sum() const {
    return fold<kLanes / 2>(*this, [](Pack a, Pack b) { return a + b; }).v[0];
  }
  T largest() const {
    return fold<kLanes / 2>(*this, [](Pack a, Pack b) { return max(a, b); }).v[0];
  }

 private:
  template <int kBy, size_t... I>
  Pack rotated(std::index_sequence<I...>) const {
    return Pack(__builtin_shufflevector(v, v, ((static_cast<int>(I) + kBy) % kLanes)...));
  }
  template <int kHalf, typename F>
  static Pack fold(const Pack& x, F f) {
    const Pack y = f(x, x.template rotated<kHalf>(std::make_index_sequence<kLanes>()));
    if constexpr (kHalf > 1)
      return fold<kHalf / 2>(y, f);
    else
      return y;
  }
};

// Calls full(i) for every whole register in [begin, end) and tail(i, count) for the rest.
template <typename T, typename Full, typename Tail>
inline void for_packs(int64_t begin, int64_t end, Full full, Tail tail) {
  int64_t i = begin;
  for (; i + Pack<T>::kLanes <= end; i += Pack<T>::kLanes) full(i);
  if (i < end) tail(i, end - i);
}

// y[i] = f(x[i]...) for i in [begin, end), a register at a time.
template <typename T, typename F, typename... X>
inline void map_packs(int64_t begin, int64_t end, T* y, F f, const X*... x) {
  using P = Pack<T>;
  for_packs<T>(
      begin, end, [&](int64_t i) { f(P::load(x + i)...).store(y + i); },
      [&](int64_t i, int64_t count) { f(P::load(x + i, count)...).store(y + i, count); });
}

}  // namespace mullion::cpu
