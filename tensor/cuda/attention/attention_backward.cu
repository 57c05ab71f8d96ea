// Attention backward on tensor cores, bf16 with sums in f32, D of 64 and 128:
//   p = 2^(c s - lse),  dv = p^T do,  ds = p (do v^T - delta),  dq = scale ds k,  dk = scale ds^T q
// One kernel steps over the keys of a block of queries (dq), another over the queries of a block of
// keys (dk, dv). Both compute s and do v^T, 7 products instead of 5, but no two blocks add to one
// number: there are no atomics, and results are the same at every run. In the second the scores are
// transposed, keys x queries, so that p^T and ds^T are left operands as they leave the sums.
// Keys that panes see from afar (the sinks) go through a narrow form of it, 16 keys a block whose
// warps share out the queries, into the side buffer (attention_plan.h).
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_tiles.cuh"

namespace mullion::cuda {
namespace {

//   shared memory:  q, do [128 x D]   k, v [2 buffers of 32 x D]   lse, delta    49 or 97 KB
// Two blocks a multiprocessor; with D = 128 only one where shared memory ends at 164 KB (sm_80).
template <int D, bool kStrided>
struct QueryGradientShape {
  static constexpr int kWarps = 4, kM = 2, kKeys = 32;
  static constexpr int kThreads = kWarps * kWarpSize, kRows = kWarps * kM * 16;
  static constexpr size_t kBytes =
      RowTile<D>::bytes(2 * kRows + 4 * kKeys) + 2 * kRows * sizeof(float);
};

template <int D, bool kStrided>
__global__ __launch_bounds__(QueryGradientShape<D, kStrided>::kThreads) void query_gradient_kernel(
    AttentionBackwardArgs args, BackwardScratch scratch, AttentionPlan plan) {
  using Shape = QueryGradientShape<D, kStrided>;
  constexpr int kM = Shape::kM, kKeys = Shape::kKeys, kN = kKeys / 8;
  DYNAMIC_SHARED(Bf16, shared);
  Bf16* const q_tile = shared;
  Bf16* const d_o_tile = q_tile + Shape::kRows * D;
  Bf16* const k_tiles = d_o_tile + Shape::kRows * D;
  Bf16* const v_tiles = k_tiles + 2 * kKeys * D;
  float* const lse = reinterpret_cast<float*>(v_tiles + 2 * kKeys * D);
  float* const delta = lse + Shape::kRows;

  SHARED(QueryBlock, block, [1]);
  set_query_block(block[0], args, plan);
  const RowBlock& rows = block[0].rows;
  const KeyView& view = block[0].view;
  const auto* const q = static_cast<const Bf16*>(args.q);
  const auto* const d_o = static_cast<const Bf16*>(args.d_o);
  start_rows<D, Shape::kRows, Shape::kThreads>(q_tile, q, [&](int row) {
    return row < rows.rows
               ? attention_row(q, args.q_stride, rows.batch, rows.token(row), rows.head(row))
               : nullptr;
  });
  start_rows<D, Shape::kRows, Shape::kThreads>(d_o_tile, d_o, [&](int row) {
    return row < rows.rows ? attention_row(d_o, args.d_o_stride, rows.batch, rows.result_token(row),
                                           rows.head(row))
                           : nullptr;
  });
  const auto start = [&](int slot0, int buffer) {
    start_keys<D, kKeys, Shape::kThreads>(k_tiles + buffer * kKeys * D,
                                          v_tiles + buffer * kKeys * D, block[0], args, slot0);
  };
  start(0, 0);

  const int lane = threadIdx.x % kWarpSize;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kM * 16;
  for (int i = threadIdx.x; i < Shape::kRows; i += Shape::kThreads) {
    const int row = min(i, rows.rows - 1);
    const int64_t at = (rows.batch * args.size.H + rows.head(row)) * args.size.T + rows.token(row);
    lse[i] = scratch.lse[at];
    delta[i] = scratch.delta[at];
  }
  float dq[kM][D / 8][4] = {};
  const float c = static_cast<float>(args.size.scale) * kLog2E;
  int buffer = 0;
  for (int slot0 = 0; slot0 < view.slots; slot0 += kKeys, buffer ^= 1) {
    cp_async_wait<0>();
    __syncthreads();
    if (slot0 + kKeys < view.slots) start(slot0 + kKeys, buffer ^ 1);
    if (warp_row >= rows.rows ||
        view.none(slot0, rows.position(min(warp_row + kM * 16, rows.rows) - 1)))
      continue;
    float s[kM][kN][4] = {}, dp[kM][kN][4] = {};
    add_dot_products<D>(s, q_tile, warp_row, k_tiles + buffer * kKeys * D);
    if (!view.clear(slot0 + kKeys, rows.position(warp_row)))
      mask_scores<kStrided>(s, rows, warp_row + lane / 4, view, slot0);
    add_dot_products<D>(dp, d_o_tile, warp_row, v_tiles + buffer * kKeys * D);
    uint32_t ds[kM][kN][2];
#pragma unroll
    for (int m = 0; m < kM; ++m)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = warp_row + 16 * m + 8 * r + lane / 4;
        const float its_lse = lse[row], its_delta = delta[row];
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const float p_low = exp2_approximate(s[m][n][2 * r] * c - its_lse);
          const float p_high = exp2_approximate(s[m][n][2 * r + 1] * c - its_lse);
          ds[m][n][r] = pack_bf16(p_low * (dp[m][n][2 * r] - its_delta),
                                  p_high * (dp[m][n][2 * r + 1] - its_delta));
        }
      }
    add_weighted_rows<D>(dq, ds, k_tiles + buffer * kKeys * D);
  }
  cp_async_wait<0>();
  __syncthreads();
  const float scale = static_cast<float>(args.size.scale);
  store_rows<D>(dq, scale, q_tile, warp_row, [&](int i) {
    const int row = warp_row + i;
    return row < rows.rows ? attention_row(static_cast<Bf16*>(args.dq), args.dq_stride, rows.batch,
                                           rows.token(row), rows.head(row))
                           : nullptr;
  });
}

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

template <int D, int kTileRows>
__global__
__launch_bounds__(KeyGradientShape<D, false, kTileRows>::kThreads) void key_gradient_kernel(
    AttentionBackwardArgs args, BackwardScratch scratch, AttentionPlan plan) {
  using Shape = KeyGradientShape<D, false, kTileRows>;
  DYNAMIC_SHARED(Bf16, shared);
  KeyGradient<D, Shape> sum(shared);
  {
    const KeyWork work = plan.key_blocks[blockIdx.x];
    const PlanGroup group = plan.groups[work.first_group];
    const auto start_keys = [&](Bf16* tile, const void* base, const AttentionStrides& strides) {
      const auto* const rows = static_cast<const Bf16*>(base);
      start_rows<D, Shape::kKeys, Shape::kThreads>(tile, rows, [&](int i) {
        return work.key + i < plan.n_keys
                   ? attention_row(rows, strides, group.batch, work.key + i, group.kv_head)
                   : nullptr;
      });
    };
    start_keys(sum.k_tile, args.k, args.k_stride);
    start_keys(sum.v_tile, args.v, args.v_stride);
    cp_async_commit();  // a group of their own: where no query sees the block, no other follows
    SpanWalk walk(plan, work);
    sum.add_all(args, scratch, plan, walk, work.key);
  }

  // Read again: kept meanwhile, they would not leave enough registers.
  const KeyWork work = plan.key_blocks[blockIdx.x];
  const PlanGroup group = plan.groups[work.first_group];
#pragma unroll
  for (int m = 0; m < Shape::kM; ++m)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int key = work.key + sum.warp_key() + 16 * m + 8 * r + sum.lane / 4;
      if (key >= plan.n_keys) continue;
      for_side_rows(plan, work, key, [&](int64_t row) {
        const float* const from = scratch.side + row * 2 * D + sum.lane % 4 * 2;
#pragma unroll
        for (int n = 0; n < D / 8; ++n)
#pragma unroll
          for (int e = 0; e < 2; ++e) {
            sum.dk[m][n][2 * r + e] += from[8 * n + e];
            sum.dv[m][n][2 * r + e] += from[D + 8 * n + e];
          }
      });
    }
  const auto store = [&](const auto& values, float factor, Bf16* tile, void* base,
                         const AttentionStrides& strides) {
    store_rows<D>(values, factor, tile, sum.warp_key(), [&](int i) {
      const int key = work.key + sum.warp_key() + i;
      return key < plan.n_keys
                 ? attention_row(static_cast<Bf16*>(base), strides, group.batch, key, group.kv_head)
                 : nullptr;
    });
  };
  store(sum.dk, static_cast<float>(args.size.scale), sum.k_tile, args.dk, args.dk_stride);
  store(sum.dv, 1.0f, sum.v_tile, args.dv, args.dv_stride);
}

// Adds up the warps' sums in order and writes them to rows of the side buffer.
template <int D, typename Shape>
__device__ void store_side(const float (&values)[1][D / 8][4], float* shared, float* side,
                           int keys) {
  const int lane = threadIdx.x % kWarpSize, warp = static_cast<int>(threadIdx.x) / kWarpSize;
  __syncthreads();  // what lay in shared memory is not needed any more
#pragma unroll
  for (int n = 0; n < D / 8; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e)
      shared[(warp * 16 + e / 2 * 8 + lane / 4) * D + 8 * n + lane % 4 * 2 + e % 2] =
          values[0][n][e];
  __syncthreads();
  for (int i = threadIdx.x; i < keys * D; i += Shape::kThreads) {
    float total = 0;
#pragma unroll
    for (int w = 0; w < Shape::kWarps; ++w) total += shared[w * 16 * D + i];
    side[i / D * 2 * D + i % D] = total;
  }
}

template <int D>
__global__ __launch_bounds__(KeyGradientShape<D, true>::kThreads) void list_gradient_kernel(
    AttentionBackwardArgs args, BackwardScratch scratch, AttentionPlan plan) {
  using Shape = KeyGradientShape<D, true>;
  static_assert(Shape::kWarps * 16 * D * sizeof(float) <= Shape::kBytes);
  DYNAMIC_SHARED(Bf16, shared);
  KeyGradient<D, Shape> sum(shared);
  const ListWork work = plan.lists[blockIdx.x];
  const PlanPane& pane = plan.panes[work.pane];
  const PlanGroup& group = plan.groups[work.group];
  const int32_t* const list = plan.keys + pane.list + work.slot;
  const int count = min(Shape::kKeys, pane.sides - work.slot);
  const auto start_keys = [&](Bf16* tile, const void* base, const AttentionStrides& strides) {
    const auto* const rows = static_cast<const Bf16*>(base);
    start_rows<D, Shape::kKeys, Shape::kThreads>(tile, rows, [&](int i) {
      return i < count ? attention_row(rows, strides, group.batch, list[i], group.kv_head)
                       : nullptr;
    });
  };
  start_keys(sum.k_tile, args.k, args.k_stride);
  start_keys(sum.v_tile, args.v, args.v_stride);
  cp_async_commit();
  PaneWalk walk(plan, work);
  sum.add_all(args, scratch, plan, walk, 0);

  float* const side = scratch.side + (int64_t{group.side} + pane.side + work.slot) * 2 * D;
  float* const space = reinterpret_cast<float*>(shared);
  store_side<D, Shape>(sum.dk, space, side, count);
  store_side<D, Shape>(sum.dv, space, side + D, count);
}

template <int D>
constexpr PlanShape kShape = {.rows = QueryGradientShape<D, false>::kRows,
                              .key_block = KeyGradientShape<D, false>::kKeys,
                              .list_tile = KeyGradientShape<D, true>::kKeys};

template <int D, bool kStrided>
void query_gradient(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                    const AttentionPlan& plan) {
  using Shape = QueryGradientShape<D, kStrided>;
  static_assert(Shape::kRows == kShape<D>.rows && Shape::kRows >= kMostHeads);
  launch("attention_query_gradient", query_gradient_kernel<D, kStrided>, {plan.n_queries},
         Shape::kThreads, Shape::kBytes, for_device(args), scratch, plan);
}

template <int D, int kTileRows>
void key_gradient(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                  const AttentionPlan& plan, const char* name) {
  using Shape = KeyGradientShape<D, false, kTileRows>;
  static_assert(Shape::kKeys == kShape<D>.key_block);
  launch(name, key_gradient_kernel<D, kTileRows>, {plan.n_key_blocks}, Shape::kThreads,
         Shape::kBytes, for_device(args), scratch, plan);
}
// With low tiles of rows where the device has not the shared memory for tall ones.
template <int D>
void key_gradient(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                  const AttentionPlan& plan) {
  using Tall = KeyGradientShape<D, false>;
  if (Tall::kBytes <= device_facts().shared_per_block)
    return key_gradient<D, Tall::kRows>(args, scratch, plan, "attention_key_gradient");
  key_gradient<D, 32>(args, scratch, plan, "attention_key_gradient_low");
}

template <int D>
void backward(const AttentionBackwardArgs& args, const BackwardScratch& scratch) {
  const AttentionPlan plan = attention_plan(args.size, kShape<D>);
  using List = KeyGradientShape<D, true>;
  attention_delta(args, scratch, plan);
  launch("attention_list_gradient", list_gradient_kernel<D>, {plan.n_lists}, List::kThreads,
         List::kBytes, for_device(args), scratch, plan);
  key_gradient<D>(args, scratch, plan);
  args.size.pattern->kind == PatternKind::strided ? query_gradient<D, true>(args, scratch, plan)
                                                  : query_gradient<D, false>(args, scratch, plan);
}

}  // namespace

PlanShape tensor_core_shape(int64_t D) { return D == 64 ? kShape<64> : kShape<128>; }

void tensor_core_backward(const AttentionBackwardArgs& args, const BackwardScratch& scratch) {
  args.size.D == 64 ? backward<64>(args, scratch) : backward<128>(args, scratch);
}

}  // namespace mullion::cuda
