// Backward of MSA-Conv in f32 by tiles in shared memory, for the geometries of msa_conv_tiled.cu. A
// block owns a tile of queries and the tile of (rolled) keys at the same place, and takes them one
// after the other: with K, V and their halo in shared memory it sums dQ over the taps; then with Q,
// dO and their halo it sums dK and dV over the queries that see each key. The probabilities are
// computed again on both sides, which is cheaper than to keep K * K of them a query, and no sum
// crosses a block.
//   P = 2^(l - lse),  dl = scale P (<dO, v> - D),  D = <dO, O>
//   dq = sum over keys of dl k,  dk = sum over queries of dl q,  dv = sum over queries of P dO
// Outside keys are zero and add nothing to dQ, and own keys are inside: the border needs no test.
#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tensor/cuda/msa_conv/msa_conv_strip.cuh"
#include "tensor/cuda/msa_conv/msa_conv_tile_stats.cuh"

namespace mullion::cuda {

namespace {

// A tap's weights from the products <q, k> and <dO, v>: P, and dl in units of the scale.
struct TapWeights {
  float p, dl;
};
__device__ inline TapWeights tap_weights(const MsaMap& m, const QueryStats& query, float qk,
                                         float gv) {
  const float p = exp2f(qk * m.scale_log2 - query.lse);
  return {p, m.scale * p * (gv - query.mean)};
}

template <int D, int K>
__device__ void queries_side(const MsaConvBackwardArgs& a, const MsaMap& m, const MsaTiles& t,
                             const TilePlace& p, const StripLanes<D>& lanes, Strip s,
                             const unsigned char* keys, const unsigned char* values) {
  StripChannels q, g, dq = {};
  load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.o, a.o_stride, D), StripRolls::none(),
                q);
  load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.grad_o, a.grad_o_stride, D),
                StripRolls::none(), g);
  const float* lse =
      static_cast<const float*>(a.lse) + (p.b * m.heads + p.head) * m.height * m.width;
  QueryStats stats[kStrip];
#pragma unroll
  for (int r = 0; r < kStrip; ++r) {
    float mean = 0;
#pragma unroll
    for (int c = 0; c < kLaneChannels; ++c) mean += q[r][c] * g[r][c];
    stats[r] = {s.in_map(m, r) ? lse[s.y * m.width + s.x + s.d * r] * kLog2e : 0.0f,
                lanes.sum(mean)};
  }
  load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.q, a.q_stride, D), StripRolls::none(),
                q);
#pragma unroll 1
  for (int i = 0; i < K; ++i) {
    const float* key_row = window_row<D>(t, s, keys, i);
    const float* value_row = window_row<D>(t, s, values, i);
#pragma unroll
    for (int c = 0; c < kStrip + K - 1; ++c) {
      const LaneChannels k = load_pixel<D>(lanes, key_row, c),
                         v = load_pixel<D>(lanes, value_row, c);
#pragma unroll
      for (int r = 0; r < kStrip; ++r) {
        if (c < r || c - r >= K) continue;
        const TapWeights tap =
            tap_weights(m, stats[r], lanes.sum(dot(q[r], k)), lanes.sum(dot(g[r], v)));
        add(tap.dl, k, dq[r]);
      }
    }
  }
  s.x = hide_origin(s.x);
  store_strip<D>(m, s, lanes, dq, StripRolls::none(),
                 image_head<float>(m, p, a.dq, a.dq_stride, D));
}

template <int D, int K>
__device__ void keys_side(const MsaConvBackwardArgs& a, const MsaMap& m, const MsaTiles& t,
                          const TilePlace& p, const StripLanes<D>& lanes, Strip s,
                          const StripRolls& rolls, const unsigned char* queries,
                          const unsigned char* grads, const QueryStats* stats) {
  StripChannels k, v, dk = {}, dv = {};
  load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.k, a.k_stride, D), rolls, k);
  load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.v, a.v_stride, D), rolls, v);
#pragma unroll 1
  for (int i = 0; i < K; ++i) {
    const float* query_row = window_row<D>(t, s, queries, i);
    const float* grad_row = window_row<D>(t, s, grads, i);
    const QueryStats* row_stats = stats + (s.row + i) * t.columns() + s.column;
#pragma unroll
    for (int c = 0; c < kStrip + K - 1; ++c) {
      const LaneChannels q = load_pixel<D>(lanes, query_row, c),
                         g = load_pixel<D>(lanes, grad_row, c);
#pragma unroll
      for (int r = 0; r < kStrip; ++r) {
        if (c < r || c - r >= K) continue;
        const TapWeights tap =
            tap_weights(m, row_stats[c], lanes.sum(dot(k[r], q)), lanes.sum(dot(v[r], g)));
        add(tap.dl, q, dk[r]);
        add(tap.p, g, dv[r]);
      }
    }
  }
  s.x = hide_origin(s.x);  // places are worked out again, rather than kept since k and v were read
  store_strip<D>(m, s, lanes, dk, rolls, image_head<float>(m, p, a.dk, a.dk_stride, D));
  store_strip<D>(m, s, lanes, dv, rolls, image_head<float>(m, p, a.dv, a.dv_stride, D));
}

template <int D, int K>
__global__ void __launch_bounds__(kTileThreads, 2)
    msa_conv_tiled_backward_kernel(MsaConvBackwardArgs a, MsaMap m, MsaTiles t) {
  DYNAMIC_SHARED(unsigned char, raw);
  using Pieces = typename StripLanes<D>::Pieces;
  const TilePlace p(m, t);
  const int bytes = t.pixels() * Pieces::kBytes;
  unsigned char *first = raw, *second = raw + bytes;
  auto* stats = reinterpret_cast<QueryStats*>(raw + 2 * bytes);
  const StripLanes<D> lanes;

  fill_tiles<float, Pieces, true>(m, t, p, image_head<const float>(m, p, a.k, a.k_stride, D),
                                  image_head<const float>(m, p, a.v, a.v_stride, D), first, second);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();
  for (int index = lanes.group; index < Strip::count(t); index += StripLanes<D>::kGroups) {
    const Strip s(m, t, p, index);
    if (s.in_map(m)) queries_side<D, K>(a, m, t, p, lanes, s, first, second);
  }
  __syncthreads();

  fill_tiles<float, Pieces, false>(m, t, p, image_head<const float>(m, p, a.q, a.q_stride, D),
                                   image_head<const float>(m, p, a.grad_o, a.grad_o_stride, D),
                                   first, second);
  cp_async_commit();
  fill_stats<float, D>(a, m, t, p, stats);
  const StripRolls rolls = StripRolls::of_keys(m, p, lanes);
  cp_async_wait<0>();
  __syncthreads();
  for (int index = lanes.group; index < Strip::count(t); index += StripLanes<D>::kGroups) {
    const Strip s(m, t, p, index);
    if (s.in_map(m)) keys_side<D, K>(a, m, t, p, lanes, s, rolls, first, second, stats);
  }
}

}  // namespace

void msa_conv_tiled_backward(const MsaConvBackwardArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  if (m.batch == 0) return;
  dispatch_window(m, [&](auto head, auto window) {
    constexpr int D = head(), K = window();
    const MsaTiles t = make_msa_tiles(m, tiled_pixel_bytes(D, DType::f32));
    launch("msa_conv_tiled_backward", msa_conv_tiled_backward_kernel<D, K>, Grid{t.blocks},
           kTileThreads,
           static_cast<size_t>(t.pixels()) * static_cast<size_t>(tiled_pixel_bytes(D, DType::f32)),
           args, m, t);
  });
}

}  // namespace mullion::cuda
