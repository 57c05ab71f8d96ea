// Attention forward for every D and type, in f32 arithmetic: online softmax over tiles of keys
//   m' = max(m, s), l' = l 2^(m-m') + sum 2^(s-m'), o' = o 2^(m-m') + 2^(s-m') v,
//   s = q k scale log2 e
// (Milakov and Gimelshein 2018). A block of 128 threads takes 32 rows; eight lanes share a row and
// each keeps every eighth column of its o. The tensor-core kernels take the same steps.
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_simple.cuh"

namespace mullion::cuda {
namespace {

template <typename T, int kWidth>
__global__ __launch_bounds__(kSimpleThreads,
                             1) void simple_forward_kernel(AttentionForwardArgs args,
                                                           AttentionPlan plan) {
  using Tile = SimpleTile<kWidth>;
  constexpr int kKeys = Tile::kKeys, kScores = kKeys / kRowLanes;
  DYNAMIC_SHARED(float, shared);
  const int D = static_cast<int>(args.size.D), stride = D | 1;  // odd: no two lanes in one bank
  float* const q = shared;
  float* const k = q + kSimpleRows * stride;
  float* const v = k + kKeys * stride;
  float* const p = v + kKeys * stride;  // kSimpleRows x kKeys

  const QueryWork work = plan.queries[blockIdx.x];
  const RowBlock rows = row_block(plan, work.group, work.i0, work.i1, args.size.query_offset);
  const KeyView view = key_view(plan, work);
  load_queries<T>(q, stride, D, kSimpleRows, rows, 0, rows.rows,
                  static_cast<float>(args.size.scale) * kLog2E, args.q, args.q_stride);

  const int lane = threadIdx.x % kRowLanes, first_row = threadIdx.x / kRowLanes;
  float o[2][Tile::kColumns] = {}, top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
  for (int slot0 = 0; slot0 < view.slots; slot0 += kKeys) {
    __syncthreads();
    load_keys<T>(k, stride, D, view, slot0, kKeys, args.k, args.k_stride, rows);
    load_keys<T>(v, stride, D, view, slot0, kKeys, args.v, args.v_stride, rows);
    __syncthreads();
    float s[2][kScores] = {};
    add_scores<kScores>(s, q, k, stride, D, first_row, lane);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int row = first_row + r * kSimpleRows / 2;
      const int position = rows.position(min(row, rows.rows - 1));
      float largest = top[r];
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        if (!view.sees(position, slot0 + lane + j * kRowLanes)) s[r][j] = -INFINITY;
        largest = fmaxf(largest, s[r][j]);
      }
      for (int bit = 1; bit < kRowLanes; bit *= 2)
        largest = fmaxf(largest, __shfl_xor_sync(kFullMask, largest, bit));
      // A row that has seen nothing yet: any finite maximum gives it zeros.
      const float base = largest == -INFINITY ? 0 : largest;
      const float shrink = exp2f(top[r] - base);
      top[r] = largest;
      sum[r] *= shrink;
#pragma unroll
      for (int j = 0; j < kScores; ++j) {
        const float e = exp2f(s[r][j] - base);
        sum[r] += e;
        p[row * kKeys + ((lane + j * kRowLanes) ^ Tile::swizzle(row))] = e;
      }
#pragma unroll
      for (int c = 0; c < Tile::kColumns; ++c) o[r][c] *= shrink;
    }
    __syncwarp();  // a row's lanes are of one warp
    add_product<Tile>(o, p, v, stride, D, kKeys, first_row, lane);
  }
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    for (int bit = 1; bit < kRowLanes; bit *= 2) sum[r] += __shfl_xor_sync(kFullMask, sum[r], bit);
    const int row = first_row + r * kSimpleRows / 2;
    if (row >= rows.rows) continue;
    const int token = rows.result_token(row), head = rows.head(row);
    store_row<T>(o[r], sum[r] == 0 ? 0 : 1 / sum[r], D, lane,
                 attention_row(static_cast<T*>(args.o), args.o_stride, rows.batch, token, head));
    if (args.lse != nullptr && lane == 0)
      static_cast<float*>(args.lse)[(rows.batch * args.size.H + head) * args.size.T + token] =
          top[r] * kLn2 + logf(sum[r]);
  }
}

}  // namespace

void simple_forward(const AttentionForwardArgs& args) {
  const AttentionPlan plan = attention_plan(args.size, {.rows = kSimpleRows});
  dispatch_cuda("attention", args.size.dtype, [&](auto tag) {
    using T = decltype(tag);
    dispatch_width(args.size.D, [&](auto width) {
      constexpr int kWidth = decltype(width)::value;
      launch("attention_simple_forward", simple_forward_kernel<T, kWidth>, {plan.n_queries},
             kSimpleThreads, SimpleTile<kWidth>::forward_bytes(args.size.D), for_device(args),
             plan);
    });
  });
}

}  // namespace mullion::cuda
