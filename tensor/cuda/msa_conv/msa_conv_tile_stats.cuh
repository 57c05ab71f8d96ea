// What the keys' side of MSA-Conv's backward knows of each query of its halo: the log-sum-exp, in
// units of log 2, and D = <dO, O>. Where there is no query the log-sum-exp is huge, so that all its
// probabilities are 0.
#pragma once
#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/msa_conv/msa_conv_tile.cuh"

namespace mullion::cuda {

struct alignas(8) QueryStats {
  float lse, mean;
};

// <a, b> over 8 channels.
__device__ inline float dot_8(const float* a, const float* b) {
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 8; i += 4) {
    const float4 x = load_vector<float4>(a + i), y = load_vector<float4>(b + i);
    sum += x.x * y.x, sum += x.y * y.y, sum += x.z * y.z, sum += x.w * y.w;
  }
  return sum;
}
__device__ inline float dot_pair(uint32_t a, uint32_t b) {  // two bf16 in each
  return low_bf16(a) * low_bf16(b) + high_bf16(a) * high_bf16(b);
}
__device__ inline float dot_8(const Bf16* a, const Bf16* b) {
  const uint4 x = load_vector<uint4>(a), y = load_vector<uint4>(b);
  return dot_pair(x.x, y.x) + dot_pair(x.y, y.y) + dot_pair(x.z, y.z) + dot_pair(x.w, y.w);
}

// One entry for each pixel of the tile and its halo.
template <typename T, int D>
__device__ void fill_stats(const MsaConvBackwardArgs& a, const MsaMap& m, const MsaTiles& t,
                           const TilePlace& p, QueryStats* stats) {
  constexpr int kLanes = D / 8, kPixels = 32 / kLanes;  // of a warp
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int channel = 8 * (lane % kLanes);
  const auto o = image_head<const T>(m, p, a.o, a.o_stride, D);
  const auto g = image_head<const T>(m, p, a.grad_o, a.grad_o_stride, D);
  const float* lse =
      static_cast<const float*>(a.lse) + (p.b * m.heads + p.head) * m.height * m.width;
  for (int row = warp; row < t.rows(); row += kTileWarps) {
    const int y = p.y0 - m.reach_y + m.dilation * row;
    for (int first = 0; first < t.columns(); first += kPixels) {
      const int column = first + lane / kLanes, x = p.x0 - m.reach_x + m.dilation * column;
      const bool inside = y >= 0 && y < m.height && x >= 0 && x < m.width;
      const int pixel = y * m.width + x;
      float mean = 0;
      if (inside)
        mean = dot_8(o.first + pixel * o.stride + channel, g.first + pixel * g.stride + channel);
#pragma unroll
      for (int offset = kLanes / 2; offset > 0; offset /= 2)
        mean += __shfl_xor_sync(kFullMask, mean, offset);
      if (lane % kLanes == 0 && column < t.columns())
        stats[row * t.columns() + column] = {inside ? lse[pixel] * kLog2e : 1e30f, mean};
    }
  }
}

}  // namespace mullion::cuda
