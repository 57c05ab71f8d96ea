// Gradients of a block of keys on tensor cores: the tiles of rows that see it, and a warp's sums of
// dk = scale ds^T q and dv = p^T do over them. Scores are keys x queries, so that p^T and ds^T are
// left operands as they leave the sums. The next tile is copied while one is computed with.
#pragma once
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_tiles.cuh"

namespace mullion::cuda {

// kNarrow: 16 keys, which every warp has whole, and each warp its share of the rows. Else each warp
// has 16 kM keys of its own and all rows.
//   shared memory:  k, v [kKeys x D]   q, do [2 buffers of kRows x D]   lse, delta, position
//   D 64: 49 KB, two blocks of 4 warps   D 128: 130 KB, one of 8 warps   narrow: 38 or 74 KB
//   D 128 with 32 rows, for devices that have 99 KB a block: 97 KB, one of 8 warps
template <int D, bool kNarrowForm, int kTileRows = D == 64 && !kNarrowForm ? 32 : 64>
struct KeyGradientShape {
  static constexpr bool kNarrow = kNarrowForm;
  static constexpr int kWarps = D == 128 && !kNarrow ? 8 : 4;
  static constexpr int kM = D == 64 && !kNarrow ? 2 : 1;
  static constexpr int kRows = kTileRows;
  static constexpr int kKeys = kNarrow ? 16 : kWarps * kM * 16;
  static constexpr int kWarpRows = kNarrow ? kRows / kWarps : kRows;
  static constexpr int kThreads = kWarps * kWarpSize;
  static constexpr size_t kBytes =
      RowTile<D>::bytes(2 * kKeys + 4 * kRows) + 2 * kRows * (2 * sizeof(float) + sizeof(int));
};

// The tiles of rows that a block of keys is seen by, group after group, span after span.
struct SpanWalk {
  const AttentionPlan& plan;
  const KeyWork work;
  int group, span = 0, span_end = 0, row0 = 0;

  __device__ SpanWalk(const AttentionPlan& p, const KeyWork& w)
      : plan(p), work(w), group(w.first_group - 1) {
    settle();
  }
  __device__ bool done() const { return span == span_end; }
  __device__ KeySpan now() const { return plan.spans[span]; }
  __device__ void next(int rows) {
    const KeySpan its = now();
    row0 += rows;
    if (row0 < (its.q1 - its.q0) * plan.groups[group].heads) return;
    row0 = 0;
    ++span;
    settle();
  }
  __device__ void settle() {
    while (span == span_end && ++group < work.first_group + work.groups) {
      const int32_t* const first = plan.span_first +
                                   int64_t{plan.groups[group].view} * plan.blocks +
                                   work.key / plan.keys_per_block;
      span = first[0];
      span_end = first[1];
    }
  }
};

// The rows of one pane, which see all keys of a list.
struct PaneWalk {
  const AttentionPlan& plan;
  const int group, pane;
  int row0 = 0;
  bool over = false;

  __device__ PaneWalk(const AttentionPlan& p, const ListWork& w)
      : plan(p), group(w.group), pane(w.pane) {}
  __device__ bool done() const { return over; }
  __device__ KeySpan now() const {
    return {plan.panes[pane].q0, plan.panes[pane].q1, 0, INT_MAX, KeyRule::all};
  }
  __device__ void next(int rows) {
    row0 += rows;
    over = row0 >= (plan.panes[pane].q1 - plan.panes[pane].q0) * plan.groups[group].heads;
  }
};

// Sums of a warp over all row tiles, and the shared memory they come from.
template <int D, typename TheShape>
struct KeyGradient {
  using Shape = TheShape;
  static constexpr bool kNarrow = Shape::kNarrow;
  static constexpr int kM = Shape::kM, kN = Shape::kWarpRows / 8;
  Bf16 *k_tile, *v_tile, *q_tiles, *d_o_tiles;
  float *lse, *delta;
  int* position;
  const int lane, warp;
  float dk[kM][D / 8][4] = {}, dv[kM][D / 8][4] = {};

  __device__ explicit KeyGradient(Bf16* shared)
      : lane(threadIdx.x % kWarpSize), warp(static_cast<int>(threadIdx.x) / kWarpSize) {
    k_tile = shared;
    v_tile = k_tile + Shape::kKeys * D;
    q_tiles = v_tile + Shape::kKeys * D;
    d_o_tiles = q_tiles + 2 * Shape::kRows * D;
    lse = reinterpret_cast<float*>(d_o_tiles + 2 * Shape::kRows * D);
    delta = lse + 2 * Shape::kRows;
    position = reinterpret_cast<int*>(delta + 2 * Shape::kRows);
  }
  // The warp's first key in the tile, and its first row in a tile of rows.
  __device__ int warp_key() const { return kNarrow ? 0 : warp * kM * 16; }
  __device__ int warp_row() const { return kNarrow ? warp * Shape::kWarpRows : 0; }

  __device__ void start_tile(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                             const RowBlock& rows, int row0, int buffer) {
    start_query_rows<D, Shape::kRows, Shape::kThreads, false>(q_tiles + buffer * Shape::kRows * D,
                                                              args.q, args.q_stride, rows, row0);
    start_query_rows<D, Shape::kRows, Shape::kThreads, true>(d_o_tiles + buffer * Shape::kRows * D,
                                                             args.d_o, args.d_o_stride, rows, row0);
    cp_async_commit();
    if (threadIdx.x < Shape::kRows) {
      const int row = min(row0 + static_cast<int>(threadIdx.x), rows.rows - 1);
      const int i = buffer * Shape::kRows + static_cast<int>(threadIdx.x);
      const int64_t at =
          (rows.batch * args.size.H + rows.head(row)) * args.size.T + rows.token(row);
      // Rows that fill up the tile have zeros for q and do, and contribute nothing.
      lse[i] = row0 + static_cast<int>(threadIdx.x) < rows.rows ? scratch.lse[at] : INFINITY;
      delta[i] = scratch.delta[at];
      position[i] = rows.position(row);
    }
  }

  // Adds a tile; `first_key` is the position of the warp's first key.
  __device__ void add_tile(int buffer, const KeySpan& span, int first_key, int stride, float c) {
    const int first_row = buffer * Shape::kRows + warp_row();
    const Bf16* const q = q_tiles + first_row * D;
    const Bf16* const d_o = d_o_tiles + first_row * D;
    const int lowest = position[first_row], highest = position[first_row + Shape::kWarpRows - 1];
    const int last_key = first_key + kM * 16 - 1;
    const bool whole = first_key >= span.begin && last_key < span.end;
    if (!kNarrow && (first_key >= span.end || last_key < span.begin ||
                     (span.rule != KeyRule::all && first_key > highest)))
      return;
    const bool clear = kNarrow || (whole && (span.rule == KeyRule::all ||
                                             (span.rule == KeyRule::causal && last_key <= lowest)));
    float s[kM][kN][4] = {}, dp[kM][kN][4] = {};
    uint32_t p[kM][kN][2], ds[kM][kN][2];
    add_dot_products<D>(s, k_tile, warp_key(), q);
    add_dot_products<D>(dp, v_tile, warp_key(), d_o);
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const int row = first_row + 8 * n + lane % 4 * 2;
      const float2 its_lse = load_vector<float2>(lse + row);
      const float2 its_delta = load_vector<float2>(delta + row);
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          float& low = s[m][n][2 * r];
          float& high = s[m][n][2 * r + 1];
          low = exp2_approximate(low * c - its_lse.x);
          high = exp2_approximate(high * c - its_lse.y);
          if (!clear) {
            const int key = first_key + 16 * m + 8 * r + lane / 4;
            const bool inside = key >= span.begin && key < span.end;
            if (!inside || !sees_by_rule(span.rule, stride, position[row], key)) low = 0;
            if (!inside || !sees_by_rule(span.rule, stride, position[row + 1], key)) high = 0;
          }
          p[m][n][r] = pack_bf16(low, high);
          ds[m][n][r] = pack_bf16(low * (dp[m][n][2 * r] - its_delta.x),
                                  high * (dp[m][n][2 * r + 1] - its_delta.y));
        }
    }
    add_weighted_rows<D>(dv, p, d_o);
    add_weighted_rows<D>(dk, ds, q);
  }

  template <typename Walk>
  __device__ void add_all(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                          const AttentionPlan& plan, Walk& walk, int first_key) {
    const float c = static_cast<float>(args.size.scale) * kLog2E;
    const auto start = [&](int buffer) {
      const KeySpan span = walk.now();
      start_tile(args, scratch,
                 row_block(plan, walk.group, span.q0, span.q1, args.size.query_offset), walk.row0,
                 buffer);
    };
    if (!walk.done()) start(0);
    int buffer = 0;
    for (; !walk.done(); buffer ^= 1) {
      const KeySpan span = walk.now();
      walk.next(Shape::kRows);
      cp_async_wait<0>();
      __syncthreads();
      if (!walk.done()) start(buffer ^ 1);
      add_tile(buffer, span, first_key + warp_key(), plan.stride, c);
    }
    cp_async_wait<0>();
    __syncthreads();
  }
};

}  // namespace mullion::cuda
