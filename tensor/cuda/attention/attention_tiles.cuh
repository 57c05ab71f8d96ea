// The pieces of the tensor-core attention kernels: tiles of rows in shared memory, and products of
// a warp with them. A tile row is D bf16 in chunks of 16 bytes; chunk c of row r lies in place
// c ^ (r % 8), so that the eight rows that ldmatrix reads at once lie in different banks.
// Fragments: intrinsics.cuh. A sum of 16 x 8 elements per register quadruple, two neighbouring ones
// of which, rounded to bf16, are the left operand of the next product.
#pragma once
#include "tensor/cuda/attention/attention_view.cuh"
#include "tensor/cuda/dispatch.h"

namespace mullion::cuda {

template <int D>
struct RowTile {
  static_assert(D % 64 == 0);
  static constexpr int kChunks = D / 8;
  static constexpr size_t bytes(int rows) { return static_cast<size_t>(rows) * D * sizeof(Bf16); }
  // Offset in elements of a chunk.
  static __device__ __forceinline__ int at(int row, int chunk) {
    return row * D + (chunk ^ (row & 7)) * 8;
  }
};

// The copies of a tile that a thread starts: one chunk of rows row(), row() + kStep, ... As kStep
// is a multiple of 8, the chunk lies in the same place of all of them.
template <int D, int kThreads>
struct CopyShare {
  static constexpr int kChunks = RowTile<D>::kChunks, kStep = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kStep % 8 == 0);
  // Worked out where a tile is started: kept from tile to tile they would take registers from sums.
  const int thread = hide_origin(static_cast<int>(threadIdx.x));
  const int row = thread / kChunks, chunk = thread % kChunks;
  __device__ __forceinline__ Bf16* place(Bf16* tile) const {
    return tile + RowTile<D>::at(row, chunk);
  }
};

// Starts the copies of `kRows` rows; row_at(r) gives a row's elements or null, which makes zeros.
template <int D, int kRows, int kThreads, typename RowAt>
__device__ __forceinline__ void start_rows(Bf16* tile, const Bf16* any, const RowAt& row_at) {
  constexpr int kStep = CopyShare<D, kThreads>::kStep;
  static_assert(kRows % kStep == 0);
  const CopyShare<D, kThreads> share;
  Bf16* to = share.place(tile);
#pragma unroll 1
  for (int row = share.row; row < kRows; row += kStep, to += kStep * D) {
    const Bf16* const from = row_at(row);
    cp_async_16(to, from == nullptr ? any : from + share.chunk * 8, from != nullptr);
  }
}

// The same where all rows are there and those of a thread lie at equal distances: `from` is its
// first and `step` what leads to the next, in elements. An addition and a copy a row.
template <int D, int kRows, int kThreads>
__device__ __forceinline__ void start_steady_rows(Bf16* tile, const CopyShare<D, kThreads>& share,
                                                  const Bf16* from, int64_t step) {
  constexpr int kStep = CopyShare<D, kThreads>::kStep;
  static_assert(kRows % kStep == 0);
  Bf16* const to = share.place(tile);
  from += share.chunk * 8;
#pragma unroll
  for (int i = 0; i < kRows / kStep; ++i, from += step) cp_async_16(to + i * kStep * D, from);
}

// Starts the copies of a block's rows row0, row0 + 1, ...: of q, or with kResults of what lies
// where results do. A thread's rows are of one head where the number of heads divides their
// distance.
template <int D, int kRows, int kThreads, bool kResults>
__device__ __forceinline__ void start_query_rows(Bf16* tile, const void* base,
                                                 const AttentionStrides& stride,
                                                 const RowBlock& rows, int row0) {
  constexpr int kStep = CopyShare<D, kThreads>::kStep;
  const auto* const elements = static_cast<const Bf16*>(base);
  const auto row_at = [&](int i) {
    const int token = kResults ? rows.result_token(row0 + i) : rows.token(row0 + i);
    return attention_row(elements, stride, rows.batch, token, rows.head(row0 + i));
  };
  const int last = row0 + kRows - 1, tokens = rows.place(kStep);
  // Results may be moved round a circle: then a tile that contains its end is none of these.
  const bool circled = kResults && rows.result_token(last) - rows.result_token(row0) !=
                                       rows.position(last) - rows.position(row0);
  if (last < rows.rows && tokens * rows.heads == kStep && !circled) {
    const CopyShare<D, kThreads> share;
    start_steady_rows<D, kRows>(tile, share, row_at(share.row), stride.token * tokens);
  } else {
    start_rows<D, kRows, kThreads>(
        tile, elements, [&](int i) { return row0 + i < rows.rows ? row_at(i) : nullptr; });
  }
}

// What a block of queries works on. It lies in shared memory, from where it is read again when it
// is needed: sums and scores take all registers there are.
struct QueryBlock {
  RowBlock rows;
  KeyView view;
  const Bf16 *k, *v;  // key 0 of the block's key head
};
template <typename Args>
__device__ __forceinline__ void set_query_block(QueryBlock& block, const Args& args,
                                                const AttentionPlan& plan) {
  if (threadIdx.x == 0) {
    const QueryWork work = plan.queries[blockIdx.x];
    const RowBlock rows = row_block(plan, work.group, work.i0, work.i1, args.size.query_offset);
    block = {
        rows, key_view(plan, work),
        attention_row(static_cast<const Bf16*>(args.k), args.k_stride, rows.batch, 0, rows.kv_head),
        attention_row(static_cast<const Bf16*>(args.v), args.v_stride, rows.batch, 0,
                      rows.kv_head)};
  }
  __syncthreads();
}

// Starts the copies of the keys in slots slot0, slot0 + 1, ... into tiles of K and V. Nearly all
// tiles lie in the block's range of keys; the first may begin with keys of the list, the last may
// end early.
template <int D, int kKeys, int kThreads, typename Args>
__device__ __forceinline__ void start_keys(Bf16* k_tile, Bf16* v_tile, const QueryBlock& block,
                                           const Args& args, int slot0) {
  using Share = CopyShare<D, kThreads>;
  const KeyView& view = block.view;
  if (slot0 >= view.listed && slot0 + kKeys <= view.slots) {
    const Share share;
    const int64_t key = view.begin + slot0 - view.listed + share.row;
    const int64_t k_step = args.k_stride.token, v_step = args.v_stride.token;
    start_steady_rows<D, kKeys>(k_tile, share, block.k + key * k_step, k_step * Share::kStep);
    start_steady_rows<D, kKeys>(v_tile, share, block.v + key * v_step, v_step * Share::kStep);
  } else {
    const auto rows_of = [&](const Bf16* rows, int64_t stride) {
      return [=, &view](int i) {
        return slot0 + i < view.slots ? rows + view.key(slot0 + i) * stride : nullptr;
      };
    };
    start_rows<D, kKeys, kThreads>(k_tile, block.k, rows_of(block.k, args.k_stride.token));
    start_rows<D, kKeys, kThreads>(v_tile, block.v, rows_of(block.v, args.v_stride.token));
  }
  cp_async_commit();
}

// Places of 16-byte chunks as ldmatrix reads them, as offsets in bytes from the tile. Rows in steps
// of 8 and even chunks only change bits that the lane's own place leaves alone: of one place a lane
// the others are one instruction or an immediate away, and cheaper computed than kept.
template <int D>
__device__ __forceinline__ int place_of(int row, int chunk) {
  return hide_origin(RowTile<D>::at(row, chunk) * static_cast<int>(sizeof(Bf16)));
}
template <int D>
__device__ __forceinline__ const void* moved(const Bf16* tile, int place, int rows, int chunks) {
  return reinterpret_cast<const char*>(tile) + (place ^ (chunks * 16)) +
         rows * D * static_cast<int>(sizeof(Bf16));
}

// sum[m][n] += a[m] b^T with 16 kM rows of a, from a_row on, and 8 kN rows of b.
template <int D, int kM, int kN>
__device__ __forceinline__ void add_dot_products(float (&sum)[kM][kN][4], const Bf16* a, int a_row,
                                                 const Bf16* b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int a_place = place_of<D>(a_row + lane % 16, lane / 16);
  const int b_place = place_of<D>(lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int k = 0; k < D / 16; ++k) {
    uint32_t left[kM][4];
#pragma unroll
    for (int m = 0; m < kM; ++m) ldmatrix_x4(left[m], moved<D>(a, a_place, 16 * m, 2 * k));
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      uint32_t r[4];
      ldmatrix_x4(r, moved<D>(b, b_place, 8 * n, 2 * k));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        mma_16816(sum[m][n], left[m], {r[0], r[1]});
        mma_16816(sum[m][n + 1], left[m], {r[2], r[3]});
      }
    }
  }
}

// sum[m][n] += p[m] b with p of 16 kM x 8 kK in registers and 8 kK rows of b.
template <int D, int kM, int kK>
__device__ __forceinline__ void add_weighted_rows(float (&sum)[kM][D / 8][4],
                                                  const uint32_t (&p)[kM][kK][2], const Bf16* b) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int b_place = place_of<D>(lane % 16, lane / 16);
#pragma unroll
  for (int k = 0; k < kK; k += 2) {
#pragma unroll
    for (int n = 0; n < D / 8; n += 2) {
      uint32_t r[4];
      ldmatrix_x4_trans(r, moved<D>(b, b_place, 8 * k, n));
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        const uint32_t left[4] = {p[m][k][0], p[m][k][1], p[m][k + 1][0], p[m][k + 1][1]};
        mma_16816(sum[m][n], left, {r[0], r[1]});
        mma_16816(sum[m][n + 1], left, {r[2], r[3]});
      }
    }
  }
}

// Writes a warp's 16 kM rows as bf16 into its own rows of a tile and from there, in chunks of 16
// bytes, to row_at(r), r from 0, where that is not null.
template <int D, int kM, typename RowAt>
__device__ __forceinline__ void store_rows(const float (&sum)[kM][D / 8][4], float factor,
                                           Bf16* tile, int first_row, const RowAt& row_at) {
  const int lane = threadIdx.x % kWarpSize;
  __syncwarp();  // all lanes have read what lay in these rows
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int n = 0; n < D / 8; ++n)
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const int row = first_row + 16 * m + 8 * r + lane / 4;
        store_vector<uint32_t>(tile + RowTile<D>::at(row, n) + lane % 4 * 2,
                               pack_bf16(sum[m][n][2 * r] * factor, sum[m][n][2 * r + 1] * factor));
      }
  __syncwarp();
  constexpr int kChunks = RowTile<D>::kChunks, kStep = kWarpSize / kChunks;
#pragma unroll
  for (int i = 0; i < 16 * kM / kStep; ++i) {
    const int row = i * kStep + lane / kChunks, chunk = lane % kChunks;
    Bf16* const to = row_at(row);
    if (to != nullptr)
      store_vector<uint4>(to + chunk * 8,
                          load_vector<uint4>(tile + RowTile<D>::at(first_row + row, chunk)));
  }
}

// Scores of keys that a query may not see become -infinity; `row` is the lane's first. kStrided:
// the rule is `partial`, for which a query asks for more than the order of positions.
template <bool kStrided, int kM, int kN>
__device__ __forceinline__ void mask_scores(float (&s)[kM][kN][4], const RowBlock& rows, int row,
                                            const KeyView& view, int slot0) {
  int position[kM][2], phase[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m)
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      position[m][r] = rows.position(min(row + 16 * m + 8 * r, rows.rows - 1));
      if constexpr (kStrided) phase[m][r] = position[m][r] % view.stride;
    }
#pragma unroll
  for (int n = 0; n < kN; ++n)
#pragma unroll
    for (int e = 0; e < 2; ++e) {
      const int slot = slot0 + 8 * n + static_cast<int>(threadIdx.x) % 4 * 2 + e;
      const int from = kStrided && slot < view.slots ? view.key(slot) : view.seen_from(slot);
#pragma unroll
      for (int m = 0; m < kM; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          bool sees = position[m][r] >= from;
          if constexpr (kStrided)
            sees =
                sees && (position[m][r] - from < view.stride || phase[m][r] == from % view.stride);
          if (!sees) s[m][n][2 * r + e] = -INFINITY;
        }
    }
}

}  // namespace mullion::cuda
