// Attention forward on tensor cores, bf16 with sums in f32, D of 64 and 128:
//   m' = max(m, c s), l' = l 2^(m-m') + sum 2^(c s-m'), o' = o 2^(m-m') + 2^(c s-m') v,
//   s = q k, c = scale log2 e                                     (FlashAttention-2, algorithm 1)
// Four warps take 32 rows each, so that a key fragment read from shared memory serves two products.
// While a tile of keys is computed with, the next one is copied into the other buffer; one barrier
// a tile. Rows are queries of all heads of a group, so that K and V are read once for them.
//
//   shared memory:  q [128 x D]   k, v [2 buffers of kKeys x D]     D 64: 48 KB   D 128: 80 KB
// Sums and scores take nearly all registers of a thread, none of which may spill
// (tools/kernel_report): two blocks, 8 warps, live on a multiprocessor.
#include "tensor/cuda/attention/attention_kernels.h"
#include "tensor/cuda/attention/attention_softmax.cuh"
#include "tensor/cuda/attention/attention_tiles.cuh"

namespace mullion::cuda {
namespace {

template <int D, bool kStrided>
struct ForwardShape {
  static constexpr int kWarps = 4, kM = 2, kKeys = D == 64 ? 64 : kStrided ? 32 : 48;
  static constexpr int kThreads = kWarps * kWarpSize, kRows = kWarps * kM * 16;
  static constexpr size_t kBytes = RowTile<D>::bytes(kRows + 4 * kKeys);
};

template <int D, bool kStrided>
__global__ __launch_bounds__(ForwardShape<D, kStrided>::kThreads) void forward_kernel(
    AttentionForwardArgs args, AttentionPlan plan) {
  using Shape = ForwardShape<D, kStrided>;
  constexpr int kM = Shape::kM, kKeys = Shape::kKeys, kN = kKeys / 8;
  DYNAMIC_SHARED(Bf16, shared);
  Bf16* const q_tile = shared;
  Bf16* const k_tiles = q_tile + Shape::kRows * D;
  Bf16* const v_tiles = k_tiles + 2 * kKeys * D;

  SHARED(QueryBlock, block, [1]);
  set_query_block(block[0], args, plan);
  const RowBlock& rows = block[0].rows;
  const KeyView& view = block[0].view;
  const auto* const q = static_cast<const Bf16*>(args.q);
  start_rows<D, Shape::kRows, Shape::kThreads>(q_tile, q, [&](int row) {
    return row < rows.rows
               ? attention_row(q, args.q_stride, rows.batch, rows.token(row), rows.head(row))
               : nullptr;
  });
  const auto start = [&](int slot0, int buffer) {
    start_keys<D, kKeys, Shape::kThreads>(k_tiles + buffer * kKeys * D,
                                          v_tiles + buffer * kKeys * D, block[0], args, slot0);
  };
  start(0, 0);

  const int lane = threadIdx.x % kWarpSize;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarpSize * kM * 16;
  float o[kM][D / 8][4] = {}, top[kM][2], sum[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      top[m][r] = -INFINITY;
      sum[m][r] = 0;
    }
  const float c = static_cast<float>(args.size.scale) * kLog2E;
  int buffer = 0;
  for (int slot0 = 0; slot0 < view.slots; slot0 += kKeys, buffer ^= 1) {
    cp_async_wait<0>();
    __syncthreads();  // the tile is here, and nobody reads the other buffer any more
    if (slot0 + kKeys < view.slots) start(slot0 + kKeys, buffer ^ 1);
    if (warp_row >= rows.rows ||
        view.none(slot0, rows.position(min(warp_row + kM * 16, rows.rows) - 1)))
      continue;
    float s[kM][kN][4] = {};
    add_dot_products<D>(s, q_tile, warp_row, k_tiles + buffer * kKeys * D);
    if (!view.clear(slot0 + kKeys, rows.position(warp_row)))
      mask_scores<kStrided>(s, rows, warp_row + lane / 4, view, slot0);
    uint32_t p[kM][kN][2];
#pragma unroll
    for (int m = 0; m < kM; ++m) soften(s[m], c, top[m], sum[m], o[m], p[m]);
    add_weighted_rows<D>(o, p, v_tiles + buffer * kKeys * D);
  }
  cp_async_wait<0>();
  __syncthreads();  // q may still be on its way where nothing is seen

#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float l = sum[m][r];
      l += __shfl_xor_sync(kFullMask, l, 1);
      l += __shfl_xor_sync(kFullMask, l, 2);
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) o[m][n][2 * r + e] *= l == 0 ? 0 : 1 / l;
      const int row = warp_row + 16 * m + 8 * r + lane / 4;
      if (args.lse != nullptr && lane % 4 == 0 && row < rows.rows)
        static_cast<float*>(args.lse)[(rows.batch * args.size.H + rows.head(row)) * args.size.T +
                                      rows.result_token(row)] = (top[m][r] + log2f(l)) * kLn2;
    }
  store_rows<D>(o, 1.0f, q_tile, warp_row, [&](int i) {
    const int row = warp_row + i;
    return row < rows.rows ? attention_row(static_cast<Bf16*>(args.o), args.o_stride, rows.batch,
                                           rows.result_token(row), rows.head(row))
                           : nullptr;
  });
}

template <int D, bool kStrided>
void forward(const AttentionForwardArgs& args) {
  using Shape = ForwardShape<D, kStrided>;
  static_assert(Shape::kRows >= kMostHeads);
  const AttentionPlan plan = attention_plan(args.size, {.rows = Shape::kRows});
  launch("attention_forward", forward_kernel<D, kStrided>, {plan.n_queries}, Shape::kThreads,
         Shape::kBytes, for_device(args), plan);
}

template <int D>
void forward(const AttentionForwardArgs& args) {
  args.size.pattern->kind == PatternKind::strided ? forward<D, true>(args)
                                                  : forward<D, false>(args);
}

}  // namespace

void tensor_core_forward(const AttentionForwardArgs& args) {
  args.size.D == 64 ? forward<64>(args) : forward<128>(args);
}

}  // namespace mullion::cuda
