// The online softmax of the tensor-core attention forward (attention_forward.cu) on a warp's tile
// of scores in registers.
#pragma once
#include "tensor/cuda/runtime/launch.h"

namespace mullion::cuda {

// Scores, c of which are powers of two, become exponentials, as the left operand of the product
// with v; o and sum go to the new maximum. `top` is the highest score so far times c, rounded once:
// all that was summed is relative to that number, so that where no higher score comes the factor is
// 2^0, exactly 1, however many tiles follow. (A difference of products, of which the compiler makes
// one multiply-add, would leave the rounding of c times the maximum in each factor.) Returns
// whether o had to be multiplied, which most tiles do not need.
template <int kN, int kColumns>
__device__ __forceinline__ bool soften(float (&s)[kN][4], float c, float (&top)[2], float (&sum)[2],
                                       float (&o)[kColumns][4], uint32_t (&p)[kN][2]) {
  float shrink[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float largest = fmaxf(s[0][2 * r], s[0][2 * r + 1]);
#pragma unroll
    for (int n = 1; n < kN; ++n) largest = fmaxf(largest, fmaxf(s[n][2 * r], s[n][2 * r + 1]));
    largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, 2));
    const float highest = fmaxf(top[r], __fmul_rn(largest, c));
    // A row that has seen nothing yet: any finite maximum gives it zeros.
    const float base = highest == -INFINITY ? 0 : highest;
    shrink[r] = exp2_approximate(top[r] - base);
    top[r] = highest;
    float added = 0;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float low = exp2_approximate(s[n][2 * r] * c - base);
      const float high = exp2_approximate(s[n][2 * r + 1] * c - base);
      added += low + high;
      p[n][r] = pack_bf16(low, high);
    }
    sum[r] = sum[r] * shrink[r] + added;
  }
  const bool rescales = __any_sync(kFullMask, shrink[0] != 1 || shrink[1] != 1);
  if (rescales) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int e = 0; e < 4; ++e) o[n][e] *= shrink[e / 2];
  }
  return rescales;
}

}  // namespace mullion::cuda
