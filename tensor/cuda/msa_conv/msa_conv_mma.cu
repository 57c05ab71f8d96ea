// Forward of MSA-Conv in bf16 on tensor cores, accumulated in f32. The logits of a strip of 16
// queries and their whole window stay in registers, 56 a lane for K = 7, so that the softmax is
// exact in one go; its weights become the first operand of the product with V where they are.
//
// Why tensor cores although more than half of their products are masked: 56 x 56 x 96, K = 7, batch
// 128 has 7.6 GFLOP of taps, 113 us of f32 multiply-adds on an H100 at their peak; as 112 columns
// for 49 taps it is 17 GFLOP, some 30 us of 16x8x16 products, below the 72 us that its bytes take.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_mma.cuh"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"

namespace mullion::cuda {

namespace {

// Bits as WindowMask's: the lane's keys that are inside the map.
template <int D, int K>
__device__ uint32_t keys_inside(const MsaMap& m, const TilePlace& p, const MmaStrip& s) {
  constexpr int kColumns = MmaWindow<D, K>::kColumns;
  const int y0 = s.y - m.reach_y, x0 = p.x0 + s.d * s.column - m.reach_x;
  const bool whole =
      y0 >= 0 && y0 + s.d * K < m.height && x0 >= 0 && x0 + s.d * (kColumns - 1) < m.width;
  if (whole) return 0xffffffffu;
  uint32_t inside = 0;
  int row = 0, column = 2 * (static_cast<int>(threadIdx.x) % 4);
  column = hide_origin(column);
#pragma unroll
  for (int group = 0; group < MmaWindow<D, K>::kPixels / 8; ++group) {
    const int y = y0 + s.d * row;
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int x = x0 + s.d * (column + e);
      if (y >= 0 && y < m.height && x >= 0 && x < m.width) inside |= 1u << (2 * group + e);
    }
    column += 8;
    if (column >= kColumns) column -= kColumns, ++row;
  }
  return inside;
}

__device__ inline float quad_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullMask, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullMask, x, 2));
}
__device__ inline float quad_sum(float x) {
  x += __shfl_xor_sync(kFullMask, x, 1);
  return x + __shfl_xor_sync(kFullMask, x, 2);
}

// Products become weights 2^(l - top); returns, for the lane's two queries, top and their sums.
struct StripTotals {
  float top[2], sum[2];
};
template <int D, int K>
__device__ StripTotals strip_softmax(const MsaMap& m, const WindowMask<D, K>& mask,
                                     float (&s)[MmaWindow<D, K>::kGroups / 2][2][4]) {
  constexpr int kGroups = MmaWindow<D, K>::kGroups;
  StripTotals totals{{kBelowAllLogits, kBelowAllLogits}, {0, 0}};
#pragma unroll
  for (int group = 0; group < kGroups; ++group)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[group / 2][group % 2][e] = mask.has(group, e) ? s[group / 2][group % 2][e] : -INFINITY;
      totals.top[e / 2] = fmaxf(totals.top[e / 2], s[group / 2][group % 2][e]);
    }
#pragma unroll
  for (int half = 0; half < 2; ++half) totals.top[half] = quad_max(totals.top[half]) * m.scale_log2;
#pragma unroll
  for (int group = 0; group < kGroups; ++group)
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      s[group / 2][group % 2][e] =
          exp2_approximate(s[group / 2][group % 2][e] * m.scale_log2 - totals.top[e / 2]);
      totals.sum[e / 2] += s[group / 2][group % 2][e];
    }
#pragma unroll
  for (int half = 0; half < 2; ++half) totals.sum[half] = quad_sum(totals.sum[half]);
  return totals;
}

template <int D, int K>
__global__ void __launch_bounds__(kTileThreads, D == 64 ? 2 : 3)
    msa_conv_mma_kernel(MsaConvArgs a, MsaMap m, MsaTiles t) {
  constexpr int kGroups = MmaWindow<D, K>::kGroups;
  DYNAMIC_SHARED(unsigned char, raw);
  const TilePlace p(m, t);
  unsigned char *keys = raw, *values = raw + t.pixels() * MmaPieces<D>::kBytes;
  fill_tiles<Bf16, MmaPieces<D>, true>(m, t, p, image_head<const Bf16>(m, p, a.k, a.k_stride, D),
                                       image_head<const Bf16>(m, p, a.v, a.v_stride, D), keys,
                                       values);
  cp_async_commit();
  const WindowMask<D, K> window;
  cp_async_wait<0>();
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  for (int index = warp; index < MmaStrip::count(t); index += kTileWarps) {
    if (!MmaStrip::in_map(m, t, p, index)) continue;
    const MmaStrip s(m, t, p, index);
    const WindowAddress<D, K> address(t, s);
    StripFragment<D> q;
    load_strip<D>(m, s, image_head<const Bf16>(m, p, a.q, a.q_stride, D), LaneRolls<D>::none(), q);
    float weights[kGroups / 2][2][4];
#pragma unroll
    for (int group = 0; group < kGroups; ++group) {
      PixelFragment<D> pixels;
      load_pixels<D, false>(keys, address(group), pixels);
      multiply_pixels(q, pixels, weights[group / 2][group % 2]);
    }
    WindowMask<D, K> mask = window;
    mask.hide_origin();
    if (m.masked) {
      const uint32_t inside = keys_inside<D, K>(m, p, s);
      mask.rows[0] &= inside, mask.rows[1] &= inside;
    }
    const StripTotals totals = strip_softmax<D, K>(m, mask, weights);

    StripSums<D> o = {};
#pragma unroll
    for (int group = 0; group < kGroups / 2; ++group)
      add_pixels<D>(values, {address(2 * group), address(2 * group + 1)}, weights[group], o);
    float* lse = static_cast<float*>(a.lse) + (p.b * m.heads + p.head) * m.height * m.width;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float sum = fmaxf(totals.sum[half], 1e-37f), inverse = 1.0f / sum;
#pragma unroll
      for (int c = 0; c < D / 8; ++c) o.r[c][2 * half] *= inverse, o.r[c][2 * half + 1] *= inverse;
      if (lane % 4 == 0 && s.in_map(m, half))
        lse[(s.y + s.d * half) * m.width + s.x] = (totals.top[half] + log2f(sum)) * kLn2;
    }
    store_strip<D>(m, s, o, LaneRolls<D>::none(), image_head<Bf16>(m, p, a.o, a.o_stride, D));
  }
}

}  // namespace

void msa_conv_mma(const MsaConvArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  if (m.batch == 0) return;
  dispatch_window(m, [&](auto head, auto window) {
    constexpr int D = head(), K = window();
    const MsaTiles t = make_msa_tiles(m, tiled_pixel_bytes(D, DType::bf16));
    launch("msa_conv_mma", msa_conv_mma_kernel<D, K>, Grid{t.blocks}, kTileThreads,
           static_cast<size_t>(t.pixels() * 2 * MmaPieces<D>::kBytes), args, m, t);
  });
}

}  // namespace mullion::cuda
