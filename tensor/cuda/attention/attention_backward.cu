// Attention backward on tensor cores, bf16 with sums in f32, D of 64 and 128:
//   p = 2^(c s - lse),  dv = p^T do,  ds = p (do v^T - delta),  dq = scale ds k,  dk = scale ds^T q
// One kernel steps over the keys of a block of queries (dq), another over the queries of a block of
// keys (dk, dv). Both compute s and do v^T, 7 products instead of 5, but no two blocks add to one
// number: there are no atomics, and results are the same at every run. In the second the scores are
// transposed, keys x queries, so that p^T and ds^T are left operands as they leave the sums.
// Keys that panes see from afar (the sinks) go through a narrow form of it, 16 keys a block whose
// warps share out the queries, into the side buffer (attention_plan.h).
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_key_gradient.cuh"

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
