// exp, log, tanh, erf and sqrt of a Pack. Floats by polynomials of about 2 units in the last place
// over the whole range (exp, log: the minimax coefficients of the Cephes library; erf: fitted by
// weighted least squares); infinities, NaNs and denormals as in the C library. Doubles, which only
// gradient checks use, lane by lane through the C library.
#pragma once
#include <cmath>
#include <limits>

#include "tensor/cpu/pack.h"
#include "tensor/elementwise.h"

namespace mullion::cpu {

using Floats = Pack<float>;
using Doubles = Pack<double>;

// c[0] + c[1] x + c[2] x^2 + ...
template <int N>
inline Floats polynomial(const Floats& x, const float (&c)[N]) {
  Floats y(c[N - 1]);
  for (int i = N - 2; i >= 0; --i) y = y * x + c[i];
  return y;
}

inline Floats exp(const Floats& x_in) {
  using Raw = Floats::Raw;
  using RawInt = Floats::RawInt;
  const Floats x = max(min(x_in, 89.0f), -104.0f);  // beyond: infinity and 0
  const Floats magic = 0x1.8p23f;                   // adding it rounds to an integer
  const Floats shifted = x * 1.44269504088896341f + magic;
  const Floats n = shifted - magic;
  const Floats r = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // x - n ln 2, |r| <= 0.35
  const Floats p = polynomial(r, {5.0000001201e-1f, 1.6666665459e-1f, 4.1665795894e-2f,
                                  8.3334519073e-3f, 1.3981999507e-3f, 1.9875691500e-4f});
  const Floats y = p * (r * r) + r + 1.0f;
  // 2^n in two factors, so that n = 128 and the denormals come out right.
  const RawInt whole = reinterpret_cast<RawInt>(shifted.v) - reinterpret_cast<RawInt>(magic.v);
  const RawInt half = whole >> 1;
  const Floats scale(reinterpret_cast<Raw>((half + 127) << 23));
  const Floats rest(reinterpret_cast<Raw>((whole - half + 127) << 23));
  return y * scale * rest;
}

inline Floats log(const Floats& x_in) {
  using Raw = Floats::Raw;
  using RawInt = Floats::RawInt;
  const auto tiny = x_in < std::numeric_limits<float>::min();
  const Floats x = tiny.select(x_in * 0x1p25f, x_in);
  // x = m 2^e with m in [sqrt(1/2), sqrt(2))
  // Unsigned, since the bits of a negative x less this would overflow.
  typedef uint32_t RawBits __attribute__((vector_size(sizeof(Raw))));
  const RawInt offset = reinterpret_cast<RawInt>(reinterpret_cast<RawBits>(x.v) - 0x3f3504f3u);
  const RawInt e_int = offset >> 23;
  const Floats m(reinterpret_cast<Raw>((offset & 0x7fffff) + 0x3f3504f3));
  const Floats e = Floats(__builtin_convertvector(e_int, Raw)) - tiny.select(25.0f, 0.0f);
  const Floats f = m - 1.0f, z = f * f;
  const Floats p = polynomial(f, {3.3333331174e-1f, -2.4999993993e-1f, 2.0000714765e-1f,
                                  -1.6668057665e-1f, 1.4249322787e-1f, -1.2420140846e-1f,
                                  1.1676998740e-1f, -1.1514610310e-1f, 7.0376836292e-2f});
  const Floats y = f + (p * f * z + e * -2.12194440e-4f - z * 0.5f) + e * 0.693359375f;
  const float infinity = std::numeric_limits<float>::infinity();
  const Floats finite = (x_in < infinity).select(y, x_in);  // infinity and NaN are themselves
  const Floats positive = (x_in < 0.0f).select(std::numeric_limits<float>::quiet_NaN(), finite);
  return Floats(x_in.v == Floats::Zero().v ? Floats(-infinity).v : positive.v);
}

inline Floats tanh(const Floats& x) {
  const Floats a = abs(x), z = x * x;
  const Floats p = polynomial(z, {-3.33332819422e-1f, 1.33314422036e-1f, -5.37397155531e-2f,
                                  2.06390887954e-2f, -5.70498872745e-3f});
  const Floats small = p * z * x + x;
  const Floats large = 1.0f - 2.0f / (exp(a + a) + 1.0f);
  const Floats y = (x < 0.0f).select(-large, large);
  return Floats(a.v < Floats(0.625f).v ? small.v : y.v);
}

// |x| < 1: x P(x^2); beyond: 1 - exp(-Q(|x|)), which is 1 from 4 on.
inline Floats erf(const Floats& x) {
  const Floats a = min(abs(x), 4.0f), z = x * x;
  const Floats p = polynomial(
      z, {1.1283791657283277f, -0.3761262582863771f, 0.11283585183126887f, -0.026853813099550792f,
          0.005188329601126877f, -0.000801020878641001f, 7.853907591819751e-05f});
  const Floats q = polynomial(
      a, {0.0003415227183369944f, 1.1270891915569927f, 0.6381448301964627f, 0.1031067570689631f,
          -0.021838065310482192f, 0.0029476586538067775f, -0.00018637923001852666f});
  const Floats large = 1.0f - exp(-q);
  const Floats y = (x < 0.0f).select(-large, large);
  return Floats(a.v < Floats(1.0f).v ? (p * x).v : y.v);
}

template <typename F>
inline Doubles each_lane(const Doubles& x, F f) {
  Doubles y;
  for (int i = 0; i < Doubles::kLanes; ++i) y.v[i] = f(static_cast<double>(x.v[i]));
  return y;
}
inline Doubles exp(const Doubles& x) {
  return each_lane(x, [](double v) { return std::exp(v); });
}
inline Doubles log(const Doubles& x) {
  return each_lane(x, [](double v) { return std::log(v); });
}
inline Doubles tanh(const Doubles& x) {
  return each_lane(x, [](double v) { return std::tanh(v); });
}
inline Doubles erf(const Doubles& x) {
  return each_lane(x, [](double v) { return std::erf(v); });
}

template <typename T>
inline Pack<T> sqrt(const Pack<T>& x) {
  Pack<T> y;
  for (int i = 0; i < Pack<T>::kLanes; ++i) y.v[i] = std::sqrt(static_cast<T>(x.v[i]));
  return y;
}

}  // namespace mullion::cpu

namespace mullion {

// GELU of floats by one exponential, which its derivative shares: the normal distribution's tail is
// exp(-x^2 / 2) M(|x|), with Mills' ratio over sqrt(2 pi) as a polynomial (weighted least squares
// for |x| <= 5.5; where the argument is cut off the tail is below 2e-8). Its error is 1e-7.
template <>
inline cpu::Floats Gelu::phi<cpu::Floats>(const cpu::Floats& x) {
  using cpu::Floats;
  const Floats ratio = cpu::polynomial(
      min(abs(x), 5.5f),
      {0.4999999701976776f, -0.39893946051597595f, 0.24995791912078857f, -0.1327349692583084f,
       0.06175730749964714f, -0.025258975103497505f, 0.008853093720972538f, -0.002537381835281849f,
       0.0005621417658403516f, -9.055545524461195e-05f, 9.837943252932746e-06f,
       -6.385873803083086e-07f, 1.8598797169033787e-08f});
  const Floats tail = exp(Floats(x * x * -0.5f)) * ratio;
  return (x < 0.0f).select(tail, 1.0f - tail);
}

}  // namespace mullion
