// Attention backward for every D and type, in f32 arithmetic, with the probabilities recomputed:
//   p = 2^(s - lse),  dv = p^T do,  ds = p (do v^T - delta),  dq = scale ds k,  dk = scale ds^T q
// One kernel sums over the keys of each query (dq), another over the queries of each key (dk, dv):
// nothing is added by two blocks, so that results are the same at every run. Keys that panes see
// from afar get their share through the side buffer (attention_plan.h).
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_simple.cuh"

namespace mullion::cuda {
namespace {

template <typename T, int kWidth>
__global__ __launch_bounds__(kSimpleThreads) void simple_query_gradient_kernel(
    AttentionBackwardArgs args, BackwardScratch scratch, AttentionPlan plan) {
  using Tile = SimpleTile<kWidth>;
  constexpr int kKeys = Tile::kKeys, kScores = kKeys / kRowLanes;
  DYNAMIC_SHARED(float, shared);
  const int D = static_cast<int>(args.size.D), stride = D | 1;
  float* const q = shared;
  float* const d_o = q + kSimpleRows * stride;
  float* const k = d_o + kSimpleRows * stride;
  float* const v = k + kKeys * stride;
  float* const ds = v + kKeys * stride;  // kSimpleRows x kKeys

  const QueryWork work = plan.queries[blockIdx.x];
  const RowBlock rows = row_block(plan, work.group, work.i0, work.i1, args.size.query_offset);
  const KeyView view = key_view(plan, work);
  const float scale = static_cast<float>(args.size.scale);
  load_queries<T>(q, stride, D, kSimpleRows, rows, 0, rows.rows, scale * kLog2E, args.q,
                  args.q_stride);
  load_queries<T, true>(d_o, stride, D, kSimpleRows, rows, 0, rows.rows, 1, args.d_o,
                        args.d_o_stride);

  const int lane = threadIdx.x % kRowLanes, first_row = threadIdx.x / kRowLanes;
  int position[2];
  float lse[2], delta[2], dq[2][Tile::kColumns] = {};
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = min(first_row + r * kSimpleRows / 2, rows.rows - 1);
    const int64_t at = (rows.batch * args.size.H + rows.head(row)) * args.size.T + rows.token(row);
    position[r] = rows.position(row);
    lse[r] = scratch.lse[at];
    delta[r] = scratch.delta[at];
  }
  for (int slot0 = 0; slot0 < view.slots; slot0 += kKeys) {
    __syncthreads();
    load_keys<T>(k, stride, D, view, slot0, kKeys, args.k, args.k_stride, rows);
    load_keys<T>(v, stride, D, view, slot0, kKeys, args.v, args.v_stride, rows);
    __syncthreads();
    float s[2][kScores] = {}, dp[2][kScores] = {};
    add_scores<kScores>(s, q, k, stride, D, first_row, lane);
    add_scores<kScores>(dp, d_o, v, stride, D, first_row, lane);
#pragma unroll
    for (int r = 0; r < 2; ++r)
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const bool seen = view.sees(position[r], slot0 + lane + j * kRowLanes);
        const int row = first_row + r * kSimpleRows / 2;
        ds[row * kKeys + ((lane + j * kRowLanes) ^ Tile::swizzle(row))] =
            seen ? exp2f(s[r][j] - lse[r]) * (dp[r][j] - delta[r]) : 0;
      }
    __syncwarp();
    add_product<Tile>(dq, ds, k, stride, D, kKeys, first_row, lane);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int row = first_row + r * kSimpleRows / 2;
    if (row < rows.rows)
      store_row<T>(dq[r], scale, D, lane,
                   attention_row(static_cast<T*>(args.dq), args.dq_stride, rows.batch,
                                 rows.token(row), rows.head(row)));
  }
}

// Gradients of up to 32 keys, two a thread, and the tiles they are summed from.
template <typename T, typename TheTile>
struct SimpleKeyGradient {
  using Tile = TheTile;
  static constexpr int kRows = Tile::kKeys, kScores = kRows / kRowLanes;

  const AttentionBackwardArgs& args;
  const BackwardScratch& scratch;
  const int D, stride, lane, first_key;
  float *k, *v, *q, *d_o, *p, *ds, *lse, *delta;
  int* position;
  float dk[2][Tile::kColumns] = {}, dv[2][Tile::kColumns] = {};

  __device__ SimpleKeyGradient(float* shared, const AttentionBackwardArgs& a,
                               const BackwardScratch& b)
      : args(a),
        scratch(b),
        D(static_cast<int>(a.size.D)),
        stride(D | 1),
        lane(threadIdx.x % kRowLanes),
        first_key(threadIdx.x / kRowLanes) {
    k = shared;
    v = k + kSimpleRows * stride;
    q = v + kSimpleRows * stride;
    d_o = q + kRows * stride;
    p = d_o + kRows * stride;
    ds = p + kSimpleRows * kRows;
    lse = ds + kSimpleRows * kRows;
    delta = lse + kRows;
    position = reinterpret_cast<int*>(delta + kRows);
  }

  // Reads the tile's keys, of which key_of(r) is number r.
  template <typename KeyOf>
  __device__ void load_tile_keys(const PlanGroup& group, int count, const KeyOf& key_of) {
    const auto load = [&](float* tile, const void* base, const AttentionStrides& strides) {
      load_rows<T>(tile, stride, D, kSimpleRows, count, 1, [&](int r) {
        return attention_row(static_cast<const T*>(base), strides, group.batch, key_of(r),
                             group.kv_head);
      });
    };
    load(k, args.k, args.k_stride);
    load(v, args.v, args.v_stride);
  }

  // Adds what the rows contribute; sees(position, i) tells whether a query sees the tile's key i.
  template <typename Sees>
  __device__ void add_rows(const RowBlock& rows, const Sees& sees) {
    for (int row0 = 0; row0 < rows.rows; row0 += kRows) {
      const int count = min(kRows, rows.rows - row0);
      __syncthreads();
      load_tile_rows(rows, row0, count);
      __syncthreads();
      float s[2][kScores] = {}, dp[2][kScores] = {};
      add_scores<kScores>(s, k, q, stride, D, first_key, lane);
      add_scores<kScores>(dp, v, d_o, stride, D, first_key, lane);
#pragma unroll
      for (int r = 0; r < 2; ++r)
#pragma unroll
        for (int j = 0; j < kScores; ++j) {
          const int key = first_key + r * kSimpleRows / 2, row = lane + j * kRowLanes;
          const bool seen = row < count && sees(position[row], key);
          const float e = seen ? exp2f(s[r][j] - lse[row]) : 0;
          const int at = key * kRows + (row ^ Tile::swizzle(key));
          p[at] = e;
          ds[at] = seen ? e * (dp[r][j] - delta[row]) : 0;
        }
      __syncwarp();
      add_product<Tile>(dv, p, d_o, stride, D, count, first_key, lane);
      add_product<Tile>(dk, ds, q, stride, D, count, first_key, lane);
    }
  }

  __device__ void load_tile_rows(const RowBlock& rows, int row0, int count) {
    // Times scale, and log2 e for the powers of two, which store() takes out again.
    load_queries<T>(q, stride, D, kRows, rows, row0, count,
                    static_cast<float>(args.size.scale) * kLog2E, args.q, args.q_stride);
    load_queries<T, true>(d_o, stride, D, kRows, rows, row0, count, 1, args.d_o, args.d_o_stride);
    if (threadIdx.x < kRows) {
      const int row = row0 + min(static_cast<int>(threadIdx.x), count - 1);
      const int64_t at =
          (rows.batch * args.size.H + rows.head(row)) * args.size.T + rows.token(row);
      lse[threadIdx.x] = scratch.lse[at];
      delta[threadIdx.x] = scratch.delta[at];
      position[threadIdx.x] = rows.position(row);
    }
  }
};

template <typename T, typename Tile>
__global__ __launch_bounds__(kSimpleThreads,
                             1) void simple_key_gradient_kernel(AttentionBackwardArgs args,
                                                                BackwardScratch scratch,
                                                                AttentionPlan plan) {
  DYNAMIC_SHARED(float, shared);
  SimpleKeyGradient<T, Tile> sum(shared, args, scratch);
  const KeyWork work = plan.key_blocks[blockIdx.x];
  const PlanGroup& first = plan.groups[work.first_group];
  const int count = min(kSimpleRows, plan.n_keys - work.key);
  sum.load_tile_keys(first, count, [&](int r) { return work.key + r; });
  for (int g = work.first_group; g < work.first_group + work.groups; ++g) {
    const int* const span_first =
        plan.span_first + plan.groups[g].view * plan.blocks + work.key / plan.keys_per_block;
    for (int i = span_first[0]; i < span_first[1]; ++i) {
      const KeySpan span = plan.spans[i];
      sum.add_rows(row_block(plan, g, span.q0, span.q1, args.size.query_offset),
                   [&](int position, int r) {
                     const int key = work.key + r;
                     return key >= span.begin && key < span.end &&
                            sees_by_rule(span.rule, plan.stride, position, key);
                   });
    }
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int key = work.key + sum.first_key + r * kSimpleRows / 2;
    if (key >= plan.n_keys) continue;
#pragma unroll
    for (int c = 0; c < Tile::kColumns; ++c) sum.dk[r][c] *= kLn2;
    for_side_rows(plan, work, key, [&](int64_t row) {
      const float* const from = scratch.side + row * 2 * sum.D;
#pragma unroll
      for (int c = 0; c < Tile::kColumns; ++c) {
        const int d = sum.lane + c * kRowLanes;
        if (d >= sum.D) break;
        sum.dk[r][c] += from[d];
        sum.dv[r][c] += from[sum.D + d];
      }
    });
    store_row<T>(
        sum.dk[r], 1, sum.D, sum.lane,
        attention_row(static_cast<T*>(args.dk), args.dk_stride, first.batch, key, first.kv_head));
    store_row<T>(
        sum.dv[r], 1, sum.D, sum.lane,
        attention_row(static_cast<T*>(args.dv), args.dv_stride, first.batch, key, first.kv_head));
  }
}

// The share of one pane in the gradients of keys on its list.
template <typename T, typename Tile>
__global__ __launch_bounds__(kSimpleThreads) void simple_list_gradient_kernel(
    AttentionBackwardArgs args, BackwardScratch scratch, AttentionPlan plan) {
  DYNAMIC_SHARED(float, shared);
  SimpleKeyGradient<T, Tile> sum(shared, args, scratch);
  const ListWork work = plan.lists[blockIdx.x];
  const PlanPane& pane = plan.panes[work.pane];
  const PlanGroup& group = plan.groups[work.group];
  const int32_t* const list = plan.keys + pane.list + work.slot;
  const int count = min(kSimpleRows, pane.sides - work.slot);
  sum.load_tile_keys(group, count, [&](int r) { return list[r]; });
  sum.add_rows(row_block(plan, work.group, pane.q0, pane.q1, args.size.query_offset),
               [](int, int) { return true; });
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const int i = sum.first_key + r * kSimpleRows / 2;
    if (i >= count) continue;
    float* const to = scratch.side + (int64_t{group.side} + pane.side + work.slot + i) * 2 * sum.D;
    store_row<float>(sum.dk[r], kLn2, sum.D, sum.lane, to);
    store_row<float>(sum.dv[r], 1, sum.D, sum.lane, to + sum.D);
  }
}

// A warp a row of a group.
template <typename T>
__global__ __launch_bounds__(kSimpleThreads) void attention_delta_kernel(AttentionBackwardArgs args,
                                                                         BackwardScratch scratch,
                                                                         AttentionPlan plan,
                                                                         int blocks_per_group) {
  constexpr int kWarps = kSimpleThreads / kWarpSize;
  const RowBlock rows = row_block(plan, static_cast<int>(blockIdx.x) / blocks_per_group, 0,
                                  static_cast<int>(args.size.T), 0);
  const int row = static_cast<int>(blockIdx.x) % blocks_per_group * kWarps +
                  static_cast<int>(threadIdx.x) / kWarpSize;
  if (row >= rows.rows) return;
  const int lane = threadIdx.x % kWarpSize, head = rows.head(row), from = rows.result_token(row);
  const T* const o =
      attention_row(static_cast<const T*>(args.o), args.o_stride, rows.batch, from, head);
  const T* const d_o =
      attention_row(static_cast<const T*>(args.d_o), args.d_o_stride, rows.batch, from, head);
  float sum = 0;
  for (int d = lane; d < args.size.D; d += kWarpSize) sum += widen(o[d]) * widen(d_o[d]);
  sum = warp_sum(sum);
  if (lane > 0) return;
  const int64_t first = (rows.batch * args.size.H + head) * args.size.T;
  const float lse = static_cast<const float*>(args.lse)[first + from];
  scratch.lse[first + rows.token(row)] = lse == -INFINITY ? INFINITY : lse * kLog2E;
  scratch.delta[first + rows.token(row)] = sum;
}

}  // namespace

const PlanShape kSimpleShape = {
    .rows = kSimpleRows, .key_block = kSimpleRows, .list_tile = kSimpleRows};

void attention_delta(const AttentionBackwardArgs& args, const BackwardScratch& scratch,
                     const AttentionPlan& plan) {
  constexpr int kWarps = kSimpleThreads / kWarpSize;
  const int64_t blocks = (args.size.T * plan.most_heads + kWarps - 1) / kWarps;
  dispatch_cuda("attention", args.size.dtype, [&](auto tag) {
    launch("attention_delta", attention_delta_kernel<decltype(tag)>, {blocks * plan.n_groups},
           kSimpleThreads, 0, for_device(args), scratch, plan, static_cast<int>(blocks));
  });
}

void simple_backward(const AttentionBackwardArgs& args, const BackwardScratch& scratch) {
  const AttentionPlan plan = attention_plan(args.size, kSimpleShape);
  attention_delta(args, scratch, plan);
  dispatch_cuda("attention", args.size.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_width(args.size.D, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      dispatch_key_tile<kWidth>(args.size.D, [&](auto tile) {
        using Tile = decltype(tile);
        const size_t bytes = Tile::key_gradient_bytes(args.size.D);
        launch("attention_simple_list_gradient", simple_list_gradient_kernel<T, Tile>,
               {plan.n_lists}, kSimpleThreads, bytes, for_device(args), scratch, plan);
        launch("attention_simple_key_gradient", simple_key_gradient_kernel<T, Tile>,
               {plan.n_key_blocks}, kSimpleThreads, bytes, for_device(args), scratch, plan);
      });
      launch("attention_simple_query_gradient", simple_query_gradient_kernel<T, kWidth>,
             {plan.n_queries}, kSimpleThreads,
             SimpleTile<kWidth>::query_gradient_bytes(args.size.D), for_device(args), scratch,
             plan);
    });
  });
}

}  // namespace mullion::cuda
