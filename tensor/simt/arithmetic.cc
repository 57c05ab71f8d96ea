// Errors from a mix of the operand's bits, sums cut off at the largest term's unit.
#include "tensor/simt/arithmetic.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <limits>
#include <string>

#include "tensor/check.h"
#include "tensor/simt/simt.h"

namespace mullion::simt {
namespace {

constexpr int64_t kBlock = 8;
constexpr int kFraction = 23;

bool of_environment() {
  const char* text = std::getenv("MULLION_SIMT_ARITHMETIC");
  const std::string mode = text ? text : "exact";
  CHECK(mode == "exact" || mode == "device", "MULLION_SIMT_ARITHMETIC is exact or device, not ",
        mode);
  return mode == "device";
}

float toward_zero(double x) {
  const auto f = static_cast<float>(x);
  return std::fabs(static_cast<double>(f)) > std::fabs(x) ? std::nextafter(f, 0.0f) : f;
}

}  // namespace

bool device_arithmetic = of_environment();

void set_device_arithmetic(bool on) { device_arithmetic = on; }
bool has_device_arithmetic() { return device_arithmetic; }

float exp2_of_device(float x) {
  constexpr float kLeast = std::numeric_limits<float>::min();
  if (x == 0 || std::isnan(x) || std::isinf(x)) return std::exp2(x);
  const float y = static_cast<float>(std::exp2(static_cast<double>(x)));
  if (y < kLeast) return 0;
  if (std::isinf(y)) return y;
  // An error for each x: -2 .. 2 units, without a pattern that sums could cancel by.
  const uint32_t mixed = std::bit_cast<uint32_t>(x) * 0x9e3779b1u;
  const int units = static_cast<int>((mixed ^ mixed >> 15) % 5) - 2;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(y) + static_cast<uint32_t>(units));
}

float sum_of_tensor_core(float c, const float* a, const float* b, int64_t b_step, int64_t k) {
  for (int64_t first = 0; first < k; first += kBlock) {
    const int64_t n = std::min(kBlock, k - first);
    double terms[kBlock + 1] = {static_cast<double>(c)};
    double largest = std::fabs(terms[0]);
    for (int64_t i = 0; i < n; ++i) {
      terms[i + 1] = static_cast<double>(a[first + i]) * b[(first + i) * b_step];
      largest = std::max(largest, std::fabs(terms[i + 1]));
    }
    double sum = 0;
    if (largest > 0 && std::isfinite(largest)) {
      const double unit = std::ldexp(1.0, std::ilogb(largest) - kFraction);
      const double scale = 1 / unit;
      for (int64_t i = 0; i <= n; ++i) sum += std::trunc(terms[i] * scale);
      sum *= unit;
    } else {
      for (int64_t i = 0; i <= n; ++i) sum += terms[i];
    }
    c = toward_zero(sum);
  }
  return c;
}

float to_tf32(float x) {
  return std::isfinite(x) ? std::bit_cast<float>(std::bit_cast<uint32_t>(x) & ~0x1fffu) : x;
}

}  // namespace mullion::simt
