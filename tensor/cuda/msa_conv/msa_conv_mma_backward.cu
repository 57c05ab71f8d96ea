// Backward of MSA-Conv in bf16 on tensor cores, accumulated in f32; the two sides and the formulas
// are those of msa_conv_tiled_backward.cu, the strips and their windows those of msa_conv_mma.cuh.
// Since the log-sum-exp is known, a window is taken 16 pixels at a time: products, weights in
// place, and at once the products with the weights as first operand, so that little stays in
// registers.
//
// The window is its own mirror image: pixel i of a strip's window sees the strip's pixels exactly
// where they see it, and the same mask serves both sides. That sides are not two launches saves the
// second reading of Q, K, V and dO from memory: 8 tensors instead of 12.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_mma.cuh"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tensor/cuda/msa_conv/msa_conv_tile_stats.cuh"

namespace mullion::cuda {

namespace {

template <int D, int K>
__device__ void queries_side(const MsaConvBackwardArgs& a, const MsaMap& m, const MsaTiles& t,
                             const TilePlace& p, MmaStrip s, const WindowMask<D, K>& mask,
                             const unsigned char* keys, const unsigned char* values) {
  StripFragment<D> q, g;
  load_strip<D>(m, s, image_head<const Bf16>(m, p, a.o, a.o_stride, D), LaneRolls<D>::none(), q);
  load_strip<D>(m, s, image_head<const Bf16>(m, p, a.grad_o, a.grad_o_stride, D),
                LaneRolls<D>::none(), g);
  const float* lse_map =
      static_cast<const float*>(a.lse) + (p.b * m.heads + p.head) * m.height * m.width;
  float lse[2], mean[2] = {0, 0};
#pragma unroll
  for (int half = 0; half < 2; ++half) {
#pragma unroll
    for (int c = 0; c < D / 16; ++c)
      mean[half] +=
          dot_pair(q.r[c][half], g.r[c][half]) + dot_pair(q.r[c][2 + half], g.r[c][2 + half]);
    mean[half] += __shfl_xor_sync(kFullMask, mean[half], 1);
    mean[half] += __shfl_xor_sync(kFullMask, mean[half], 2);
    lse[half] = s.in_map(m, half) ? lse_map[(s.y + s.d * half) * m.width + s.x] * kLog2e : 0.0f;
  }
  load_strip<D>(m, s, image_head<const Bf16>(m, p, a.q, a.q_stride, D), LaneRolls<D>::none(), q);
  StripSums<D> dq = {};
  WindowWalk<D, K> walk(t, s, mask);
#pragma unroll 1
  for (int group = 0; group < MmaWindow<D, K>::kGroups; group += 2) {
    float dl[2][4];
    int offset[2];
#pragma unroll
    for (int i = 0; i < 2; ++i, walk.next()) {
      offset[i] = walk.offset();
      float products[4];
      PixelFragment<D> pixels;
      load_pixels<D, false>(keys, offset[i], pixels);
      multiply_pixels(q, pixels, products);
      load_pixels<D, false>(values, offset[i], pixels);
      multiply_pixels(g, pixels, dl[i]);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float weight = exp2_approximate(products[e] * m.scale_log2 - lse[e / 2]);
        dl[i][e] = walk.has(e) ? m.scale * weight * (dl[i][e] - mean[e / 2]) : 0.0f;
      }
    }
    add_pixels<D>(keys, offset, dl, dq);
  }
  s.x = hide_origin(s.x);
  store_strip<D>(m, s, dq, LaneRolls<D>::none(), image_head<Bf16>(m, p, a.dq, a.dq_stride, D));
}

template <int D, int K>
__device__ void keys_side(const MsaConvBackwardArgs& a, const MsaMap& m, const MsaTiles& t,
                          const TilePlace& p, MmaStrip s, const WindowMask<D, K>& mask,
                          const LaneRolls<D>& rolls, const unsigned char* queries,
                          const unsigned char* grads, const QueryStats* stats) {
  StripFragment<D> k, v;
  load_strip<D>(m, s, image_head<const Bf16>(m, p, a.k, a.k_stride, D), rolls, k);
  load_strip<D>(m, s, image_head<const Bf16>(m, p, a.v, a.v_stride, D), rolls, v);
  StripSums<D> dk = {}, dv = {};
  WindowWalk<D, K> walk(t, s, mask);
#pragma unroll 1
  for (int group = 0; group < MmaWindow<D, K>::kGroups; group += 2) {
    float weights[2][4], dl[2][4];
    int offset[2];
#pragma unroll
    for (int i = 0; i < 2; ++i, walk.next()) {
      offset[i] = walk.offset();
      PixelFragment<D> pixels;
      load_pixels<D, false>(queries, offset[i], pixels);
      multiply_pixels(k, pixels, weights[i]);
      load_pixels<D, false>(grads, offset[i], pixels);
      multiply_pixels(v, pixels, dl[i]);
      const float4 pair = load_vector<float4>(stats + walk.own_pixel());  // lse, D, lse, D
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const float lse = e % 2 == 0 ? pair.x : pair.z, mean = e % 2 == 0 ? pair.y : pair.w;
        const float weight = exp2_approximate(weights[i][e] * m.scale_log2 - lse);
        weights[i][e] = walk.has(e) ? weight : 0.0f;
        dl[i][e] = m.scale * weights[i][e] * (dl[i][e] - mean);
      }
    }
    add_pixels<D>(queries, offset, dl, dk);
    add_pixels<D>(grads, offset, weights, dv);
  }
  s.x = hide_origin(s.x);  // places are worked out again, rather than kept since k and v were read
  store_strip<D>(m, s, dk, rolls, image_head<Bf16>(m, p, a.dk, a.dk_stride, D));
  store_strip<D>(m, s, dv, rolls, image_head<Bf16>(m, p, a.dv, a.dv_stride, D));
}

template <int D, int K>
__global__ void __launch_bounds__(kTileThreads, D == 64 ? 2 : 3)
    msa_conv_mma_backward_kernel(MsaConvBackwardArgs a, MsaMap m, MsaTiles t) {
  DYNAMIC_SHARED(unsigned char, raw);
  using Pieces = MmaPieces<D>;
  const TilePlace p(m, t);
  const int bytes = t.pixels() * Pieces::kBytes, warp = static_cast<int>(threadIdx.x) / 32;
  unsigned char *first = raw, *second = raw + bytes;
  auto* stats = reinterpret_cast<QueryStats*>(raw + 2 * bytes);

  fill_tiles<Bf16, Pieces, true>(m, t, p, image_head<const Bf16>(m, p, a.k, a.k_stride, D),
                                 image_head<const Bf16>(m, p, a.v, a.v_stride, D), first, second);
  cp_async_commit();
  const WindowMask<D, K> mask;
  cp_async_wait<0>();
  __syncthreads();
  for (int index = warp; index < MmaStrip::count(t); index += kTileWarps)
    if (MmaStrip::in_map(m, t, p, index))
      queries_side<D, K>(a, m, t, p, MmaStrip(m, t, p, index), mask, first, second);
  __syncthreads();

  fill_tiles<Bf16, Pieces, false>(m, t, p, image_head<const Bf16>(m, p, a.q, a.q_stride, D),
                                  image_head<const Bf16>(m, p, a.grad_o, a.grad_o_stride, D), first,
                                  second);
  cp_async_commit();
  fill_stats<Bf16, D>(a, m, t, p, stats);
  const auto rolls = LaneRolls<D>::of_keys(m, p);
  cp_async_wait<0>();
  __syncthreads();
  for (int index = warp; index < MmaStrip::count(t); index += kTileWarps)
    if (MmaStrip::in_map(m, t, p, index))
      keys_side<D, K>(a, m, t, p, MmaStrip(m, t, p, index), mask, rolls, first, second, stats);
}

}  // namespace

void msa_conv_mma_backward(const MsaConvBackwardArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  if (m.batch == 0) return;
  dispatch_window(m, [&](auto head, auto window) {
    constexpr int D = head(), K = window();
    const int pixel_bytes = tiled_pixel_bytes(D, DType::bf16);
    const MsaTiles t = make_msa_tiles(m, pixel_bytes);
    launch("msa_conv_mma_backward", msa_conv_mma_backward_kernel<D, K>, Grid{t.blocks},
           kTileThreads, static_cast<size_t>(t.pixels() * pixel_bytes), args, m, t);
  });
}

}  // namespace mullion::cuda
