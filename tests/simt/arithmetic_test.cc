// Arithmetic of a device: within its bounds, not exact, and a kernel that takes it for exact is
// found.
#include "tensor/simt/arithmetic.h"

#include <bit>

#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

int64_t units_between(float a, float b) {
  return int64_t{std::bit_cast<int32_t>(a)} - std::bit_cast<int32_t>(b);
}

TEST(SimtArithmetic, ExponentialIsOffByUpToTwoUnits) {
  int64_t least = 0, most = 0;
  for (int i = -4000; i < 4000; ++i) {
    const float x = static_cast<float>(i) * 0.03f;
    if (x == 0) continue;
    const int64_t off = units_between(exp2_of_device(x), static_cast<float>(std::exp2(double{x})));
    least = std::min(least, off);
    most = std::max(most, off);
  }
  EXPECT_EQ(least, -2);
  EXPECT_EQ(most, 2);
  EXPECT_EQ(exp2_of_device(0), 1);
  EXPECT_EQ(exp2_of_device(-0.0f), 1);
  EXPECT_EQ(exp2_of_device(-INFINITY), 0);
  EXPECT_EQ(exp2_of_device(INFINITY), INFINITY);
  EXPECT_EQ(exp2_of_device(-130), 0);  // below the least normal number
  EXPECT_TRUE(std::isnan(exp2_of_device(NAN)));
}

TEST(SimtArithmetic, TensorCoresCutOff) {
  const auto sum = [](float c, std::vector<float> a) {
    const std::vector<float> ones(a.size(), 1.0f);
    return sum_of_tensor_core(c, a.data(), ones.data(), 1, static_cast<int64_t>(a.size()));
  };
  const float unit = std::ldexp(1.0f, -23);
  EXPECT_EQ(sum(1, {2, 3}), 6);
  // Half a unit of the largest is lost, however many there are in a block.
  EXPECT_EQ(sum(1, {unit / 2, unit / 2, unit / 2, unit / 2}), 1);
  EXPECT_EQ(sum(1, {-unit / 2, -unit / 2}), 1);
  EXPECT_EQ(sum(1, {0.75f * unit}), 1);
  // So is what the sum has more bits than a float.
  EXPECT_EQ(sum(1, {1, unit}), 2);
  EXPECT_EQ(sum(-1, {-1, -unit}), -2);
  // Cancelled terms are cut off all the same.
  EXPECT_EQ(sum(0, {1, unit / 4, -1}), 0);
  EXPECT_EQ(sum(0, {1, -1, 0, 0, 0, 0, 0, 0, unit / 4}), unit / 4);  // the next block
  EXPECT_EQ(sum(0, {}), 0);
  EXPECT_TRUE(std::isnan(sum(0, {INFINITY, -INFINITY})));
  EXPECT_EQ(sum(INFINITY, {1}), INFINITY);
  EXPECT_EQ(to_tf32(1 + std::ldexp(1.0f, -11)), 1);
  EXPECT_EQ(to_tf32(1 + std::ldexp(1.0f, -10)), 1 + std::ldexp(1.0f, -10));
}

// Whether e * 2^(-x) and e * 1 / 2^x agree to the bit.
__global__ void inverse_kernel(const float* x, float* y) {
  y[threadIdx.x] = cuda::exp2_approximate(x[threadIdx.x]) * cuda::exp2_approximate(-x[threadIdx.x]);
}

TEST(SimtNegativeControl, TakesTheExponentialForExact) {
  std::vector<float> x(32);
  for (size_t i = 0; i < 32; ++i) x[i] = static_cast<float>(i);  // powers of two
  DeviceArray<float> in(x), out(32);
  const auto right = [&] {
    cuda::launch("inverse", inverse_kernel, cuda::Grid{1}, 32, 0, in.data(), out.data());
    const std::vector<float> y = out.values();
    return std::count(y.begin(), y.end(), 1.0f);
  };
  const DeviceArithmetic exact(false);
  EXPECT_EQ(right(), 32);
  const DeviceArithmetic inexact;
  EXPECT_LT(right(), 16);
}

// Adds 1 to a large number by a product on tensor cores, 256 times.
__global__ void count_by_products_kernel(float start, float* y) {
  const uint32_t ones = cuda::pack_bf16(1, 1),
                 first = threadIdx.x % 4 == 0 ? cuda::pack_bf16(1, 0) : 0;
  const uint32_t a[4] = {ones, ones, 0, 0}, b[2] = {first, 0};
  float d[4] = {start, start, start, start};
  for (int i = 0; i < 256; ++i) cuda::mma_16816(d, a, b);
  y[threadIdx.x] = d[0];
}

TEST(SimtNegativeControl, CountsOnTheSumsOfTensorCores) {
  DeviceArray<float> y(32);
  const auto sum = [&](float start) {
    cuda::launch("count", count_by_products_kernel, cuda::Grid{1}, 32, 0, start, y.data());
    return y.values()[0] - start;
  };
  const float large = std::ldexp(1.0f, 23) + 1;  // odd: half a unit more rounds up to even
  const DeviceArithmetic inexact;
  EXPECT_EQ(sum(large), 256);
  EXPECT_EQ(sum(2 * large), 0);  // 1 is half of its unit, and cut off
  const DeviceArithmetic exact(false);
  EXPECT_EQ(sum(large), 256);
  EXPECT_EQ(sum(2 * large), 2);
}

}  // namespace
}  // namespace mullion::simt
