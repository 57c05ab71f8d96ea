// IEEE half precision by its bits, for every device: 1 sign, 5 exponent (bias 15), 10 fraction. It
// is only loaded and stored, so it is converted in software.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "tensor/host_device.h"

namespace mullion {

MULLION_HD inline float float_of_half(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
  const uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t biased = exponent == 31 ? 255u : exponent + 112u;
  const uint32_t bits = sign | (biased << 23) | (fraction << 13);
  float f;
  memcpy(&f, &bits, sizeof(f));
  return f;
}

// To nearest even; beyond 65504 infinity; NaNs stay.
MULLION_HD inline uint16_t half_of_float(float f) {
  uint32_t bits;
  memcpy(&bits, &f, sizeof(bits));
  const uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t half;
  if (magnitude >= 0x7f800000u)  // infinity or NaN
    half = 0x7c00u | (magnitude > 0x7f800000u ? 0x200u : 0u);
  else if (magnitude >= 0x477ff000u)  // rounds to above 65504
    half = 0x7c00u;
  else if (magnitude < 0x38800000u)  // subnormal: a multiple of 2^-24
    half = static_cast<uint32_t>(rintf(fabsf(f) * 0x1p24f));
  else
    half = (magnitude + 0xfffu + ((magnitude >> 13) & 1) - 0x38000000u) >> 13;
  return static_cast<uint16_t>(sign | half);
}

}  // namespace mullion
