// Forward of MSA-Conv in f32 by tiles in shared memory, for heads of 16, 32 and 64 channels and
// square odd windows up to 7 x 7, dilated or not. A group of lanes walks the rows of the window
// over a strip of four queries (msa_conv_strip.cuh) with a softmax that is brought up to date row
// by row, so that neither logits nor probabilities leave the registers.
//
// Per strip of 4 queries and row of 7 taps: 2 * 28 products of D channels for 2 * 10 pixels read
// from shared memory; 2.8 multiply-adds for each float read, where a thread for each query has 1.
#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tensor/cuda/msa_conv/msa_conv_strip.cuh"

namespace mullion::cuda {

namespace {

template <int K>
struct StripSoftmax {
  float top[kStrip], total[kStrip];

  __device__ StripSoftmax() {
#pragma unroll
    for (int r = 0; r < kStrip; ++r) top[r] = kBelowAllLogits, total[r] = 0;
  }
  // A row of logits becomes weights relative to the highest logit so far.
  __device__ void add_row(float (&row)[kStrip][K], StripChannels& o) {
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      float highest = top[r];
#pragma unroll
      for (int j = 0; j < K; ++j) highest = fmaxf(highest, row[r][j]);
      const float shrink = exp2f(top[r] - highest);
      top[r] = highest;
      total[r] *= shrink;
#pragma unroll
      for (int c = 0; c < kLaneChannels; ++c) o[r][c] *= shrink;
#pragma unroll
      for (int j = 0; j < K; ++j) {
        row[r][j] = exp2f(row[r][j] - highest);
        total[r] += row[r][j];
      }
    }
  }
};

// Products become logits; keys outside the map that are not seen weigh nothing.
template <int K>
__device__ void scale_row(const MsaMap& m, const Strip& s, int i, float (&row)[kStrip][K]) {
  const int y = s.y - m.reach_y + m.dilation * i;
  const bool row_inside = y >= 0 && y < m.height;
#pragma unroll
  for (int c = 0; c < kStrip + K - 1; ++c) {
    const int x = s.x - m.reach_x + m.dilation * c;
    const bool seen = !m.masked || (row_inside && x >= 0 && x < m.width);
#pragma unroll
    for (int r = 0; r < kStrip; ++r)
      if (c >= r && c - r < K) row[r][c - r] = seen ? row[r][c - r] * m.scale_log2 : -INFINITY;
  }
}

// products[r][j] = <q_r, pixel r + j of the row>.
template <int D, int K>
__device__ void window_products(const StripLanes<D>& lanes, const StripChannels& q,
                                const float* row, float (&products)[kStrip][K]) {
#pragma unroll
  for (int c = 0; c < kStrip + K - 1; ++c) {
    const LaneChannels k = load_pixel<D>(lanes, row, c);
#pragma unroll
    for (int r = 0; r < kStrip; ++r)
      if (c >= r && c - r < K) products[r][c - r] = lanes.sum(dot(q[r], k));
  }
}

// sums_r += sum over j of weights[r][j] * pixel r + j of the row.
template <int D, int K>
__device__ void add_window(const StripLanes<D>& lanes, const float (&weights)[kStrip][K],
                           const float* row, StripChannels& sums) {
#pragma unroll
  for (int c = 0; c < kStrip + K - 1; ++c) {
    const LaneChannels v = load_pixel<D>(lanes, row, c);
#pragma unroll
    for (int r = 0; r < kStrip; ++r)
      if (c >= r && c - r < K) add(weights[r][c - r], v, sums[r]);
  }
}

template <int D, int K>
__global__ void __launch_bounds__(kTileThreads, 2)
    msa_conv_tiled_kernel(MsaConvArgs a, MsaMap m, MsaTiles t) {
  DYNAMIC_SHARED(unsigned char, raw);
  const TilePlace p(m, t);
  unsigned char *keys = raw, *values = raw + t.pixels() * StripLanes<D>::Pieces::kBytes;
  fill_tiles<float, typename StripLanes<D>::Pieces, true>(
      m, t, p, image_head<const float>(m, p, a.k, a.k_stride, D),
      image_head<const float>(m, p, a.v, a.v_stride, D), keys, values);
  cp_async_commit();
  cp_async_wait<0>();
  __syncthreads();

  const StripLanes<D> lanes;
  for (int index = lanes.group; index < Strip::count(t); index += StripLanes<D>::kGroups) {
    const Strip s(m, t, p, index);
    if (!s.in_map(m)) continue;
    StripChannels q, o = {};
    load_strip<D>(m, s, lanes, image_head<const float>(m, p, a.q, a.q_stride, D),
                  StripRolls::none(), q);
    StripSoftmax<K> softmax;
#pragma unroll 1
    for (int i = 0; i < K; ++i) {
      float row[kStrip][K];
      window_products<D, K>(lanes, q, window_row<D>(t, s, keys, i), row);
      scale_row<K>(m, s, i, row);
      softmax.add_row(row, o);
      add_window<D, K>(lanes, row, window_row<D>(t, s, values, i), o);
    }
    float* lse = static_cast<float*>(a.lse) + (p.b * m.heads + p.head) * m.height * m.width;
#pragma unroll
    for (int r = 0; r < kStrip; ++r) {
      const float inverse = 1.0f / softmax.total[r];
#pragma unroll
      for (int c = 0; c < kLaneChannels; ++c) o[r][c] *= inverse;
      if (lanes.lane == 0 && s.in_map(m, r))
        lse[s.y * m.width + s.x + s.d * r] = (softmax.top[r] + log2f(softmax.total[r])) * kLn2;
    }
    store_strip<D>(m, s, lanes, o, StripRolls::none(), image_head<float>(m, p, a.o, a.o_stride, D));
  }
}

}  // namespace

void msa_conv_tiled(const MsaConvArgs& args) {
  const MsaMap m = make_msa_map(args.geometry);
  if (m.batch == 0) return;
  dispatch_window(m, [&](auto head, auto window) {
    constexpr int D = head(), K = window();
    const MsaTiles t = make_msa_tiles(m, tiled_pixel_bytes(D, DType::f32));
    launch("msa_conv_tiled", msa_conv_tiled_kernel<D, K>, Grid{t.blocks}, kTileThreads,
           static_cast<size_t>(t.pixels()) * 2 * D * sizeof(float), args, m, t);
  });
}

}  // namespace mullion::cuda
