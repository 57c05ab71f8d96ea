// Arithmetic that is less exact than the host's, within what a device may do: results of kernels
// shall hold with it. Off, but with MULLION_SIMT_ARITHMETIC=device or a DeviceArithmetic (simt.h).
//
// ex2.approx: up to two units in the last place off; exact at 0 and infinities; no subnormals
// (PTX ISA, "ex2"). Tensor cores: products are exact, a block of them and the sum so far are
// aligned to the largest and cut off below its last place, and so is their sum, toward zero (Fasi
// et al., Numerical behavior of NVIDIA tensor cores, 2021: without their extra bits, in blocks of
// eight as on sm_80).
#pragma once
#include <cmath>
#include <cstdint>

namespace mullion::simt {

extern bool device_arithmetic;

float exp2_of_device(float x);
inline float exp2_approximate(float x) {
  return device_arithmetic ? exp2_of_device(x) : std::exp2(x);
}

// c + a[0] b[0] + a[1] b[b_step] + ..., k products of bf16 or TF32 numbers.
float sum_of_tensor_core(float c, const float* a, const float* b, int64_t b_step, int64_t k);
float to_tf32(float x);  // 10 bits of fraction, cut off

}  // namespace mullion::simt
