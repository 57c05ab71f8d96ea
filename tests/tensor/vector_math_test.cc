// The vector exponential and logarithm against the library's in double, over their whole range.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tensor/cpu/typed_simd.h"

namespace mullion {
namespace {

constexpr int kLanes = simd::kLanes;

// The distance from `exact` in units of the last place of a float of its size.
double ulps(float value, double exact) {
  const double unit = std::ldexp(1.0, std::ilogb(exact) - 23);
  return std::abs(static_cast<double>(value) - exact) / unit;
}

template <typename F, typename Exact>
double worst_error(float first, float last, F&& f, Exact&& exact) {
  double worst = 0;
  const float step = (last - first) / 1e6f;
  for (float x = first; x <= last; x += step * kLanes) {
    simd::Vec v;
    for (int i = 0; i < kLanes; ++i) v[i] = std::min(last, x + step * static_cast<float>(i));
    const simd::Vec y = f(v);
    for (int i = 0; i < kLanes; ++i)
      worst = std::max(worst, ulps(y[i], exact(static_cast<double>(v[i]))));
  }
  return worst;
}

TEST(VectorMath, Exp2IsWithinTwoUlp) {
  const auto exact = [](double x) { return std::exp2(x); };
  EXPECT_LE(worst_error(
                -120, 127, [](simd::Vec x) { return simd::exp2(x); }, exact),
            2);
  EXPECT_LE(worst_error(
                -126, 127, [](simd::Vec x) { return simd::exp2_in_range(x); }, exact),
            2);
  EXPECT_LE(worst_error(
                -120, 127, [](simd::Vec x) { return cpu::exp2_of(x); }, exact),
            2);
  EXPECT_LE(worst_error(
                -1, 1, [](simd::Vec x) { return simd::exp2(x); }, exact),
            2);
}

TEST(VectorMath, Exp2OfWholeNumbersIsExact) {
  for (int n = -120; n <= 127; ++n)
    EXPECT_EQ(simd::exp2(simd::splat(static_cast<float>(n)))[0], std::ldexp(1.0f, n)) << n;
}

TEST(VectorMath, Exp2OutsideItsRange) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float x : {-120.5f, -1000.0f, -3e38f, -kInfinity}) {
    EXPECT_EQ(simd::exp2(simd::splat(x))[0], std::ldexp(1.0f, -120)) << x;
    EXPECT_EQ(cpu::exp2_of(simd::splat(x))[0], 0) << x;
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(simd::exp2(simd::splat(nan))[0]));
  EXPECT_TRUE(std::isnan(cpu::exp2_of(simd::splat(nan))[0]));
}

TEST(VectorMath, Log2) {
  const auto exact = [](double x) { return std::log2(x); };
  const auto log2 = [](simd::Vec x) { return simd::log2(x); };
  EXPECT_LE(worst_error(1.5f, 1e6f, log2, exact), 4);
  EXPECT_EQ(simd::log2(simd::splat(8.0f))[0], 3);
}

}  // namespace
}  // namespace mullion
