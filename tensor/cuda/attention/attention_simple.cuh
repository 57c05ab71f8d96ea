// The pieces of the simple attention kernels. 128 threads; eight lanes share a row (a query, or a
// key where gradients of keys are summed) and each thread has two rows, half a tile apart. Tiles
// lie in shared memory as f32, rows an odd number of floats apart.
#pragma once
#include <type_traits>

#include "tensor/cuda/attention/attention_view.cuh"
#include "tensor/cuda/dispatch.h"

namespace mullion::cuda {

constexpr int kSimpleThreads = 128, kSimpleRows = 32, kRowLanes = 8;
static_assert(kSimpleRows >= kMostHeads);
static_assert(kSimpleThreads / kRowLanes * 2 == kSimpleRows);

// kWidth: an upper bound of D. kSteppedKeys: of the tile that is stepped through.
template <int kWidth, int kSteppedKeys = (kWidth > 128 ? 16 : 32)>
struct SimpleTile {
  static constexpr int kColumns = kWidth / kRowLanes;
  static constexpr int kKeys = kSteppedKeys;
  // Where the columns of a row of products lie: c ^ swizzle(row). So the four rows of a warp, which
  // are an even number of banks apart, lie in different ones when they are written and read.
  static __device__ __forceinline__ int swizzle(int row) {
    static_assert(kKeys == 8 || kKeys == 16 || kKeys == 32);
    return row / (32 / kKeys) % (kKeys / 8) * 8;
  }
  static size_t bytes(int64_t D, int wide_tiles, int narrow_tiles, int products, int extra = 0) {
    const int64_t rows = wide_tiles * kSimpleRows + narrow_tiles * kKeys;
    return static_cast<size_t>(rows * (D | 1) + products * kSimpleRows * kKeys + extra) *
           sizeof(float);
  }
  static size_t forward_bytes(int64_t D) { return bytes(D, 1, 2, 1); }
  static size_t query_gradient_bytes(int64_t D) { return bytes(D, 2, 2, 1); }
  static size_t key_gradient_bytes(int64_t D) { return bytes(D, 2, 2, 2, 3 * kKeys); }
};

// Calls f(std::integral_constant<int, width>{}) for the least width that D fits into.
template <typename F>
void dispatch_width(int64_t D, F f) {
  if (D <= 32) return f(std::integral_constant<int, 32>{});
  if (D <= 64) return f(std::integral_constant<int, 64>{});
  if (D <= 128) return f(std::integral_constant<int, 128>{});
  f(std::integral_constant<int, 256>{});
}

// Calls f(tile) with the tile for gradients of keys: from D = 252 on, 16 rows at a time ask for
// more than the 99 KB a block that some devices have.
template <int kWidth, typename F>
void dispatch_key_tile(int64_t D, F f) {
  using Tile = SimpleTile<kWidth>;
  if constexpr (kWidth > 128)
    if (Tile::key_gradient_bytes(D) > device_facts().shared_per_block)
      return f(SimpleTile<kWidth, Tile::kKeys / 2>{});
  f(Tile{});
}

// Copies `count` rows, given by row_at(r), into a tile of `tile_rows` and fills it up with zeros.
template <typename T, typename RowAt>
__device__ void load_rows(float* tile, int stride, int D, int tile_rows, int count, float factor,
                          const RowAt& row_at) {
  const int lane = threadIdx.x % kWarpSize;
  for (int r = threadIdx.x / kWarpSize; r < tile_rows; r += kSimpleThreads / kWarpSize) {
    const T* const from = r < count ? row_at(r) : nullptr;
    for (int d = lane; d < D; d += kWarpSize)
      tile[r * stride + d] = from == nullptr ? 0 : widen(from[d]) * factor;
  }
}

// The same for the keys in slots slot0, slot0 + 1, ...
template <typename T>
__device__ void load_keys(float* tile, int stride, int D, const KeyView& view, int slot0, int count,
                          const void* base, const AttentionStrides& strides, const RowBlock& rows) {
  const auto row_at = [&](int r) {
    return attention_row(static_cast<const T*>(base), strides, rows.batch, view.key(slot0 + r),
                         rows.kv_head);
  };
  load_rows<T>(tile, stride, D, count, min(count, view.slots - slot0), 1, row_at);
}

// The same for `count` of a block's rows from row0 on: of q, or with kResults of what lies where
// results do.
template <typename T, bool kResults = false>
__device__ void load_queries(float* tile, int stride, int D, int tile_rows, const RowBlock& rows,
                             int row0, int count, float factor, const void* base,
                             const AttentionStrides& strides) {
  const auto row_at = [&](int r) {
    const int token = kResults ? rows.result_token(row0 + r) : rows.token(row0 + r);
    return attention_row(static_cast<const T*>(base), strides, rows.batch, token,
                         rows.head(row0 + r));
  };
  load_rows<T>(tile, stride, D, tile_rows, count, factor, row_at);
}

// s[r][j] += a[row r] . b[lane + 8 j]
template <int kScores>
__device__ void add_scores(float (&s)[2][kScores], const float* a, const float* b, int stride,
                           int D, int first_row, int lane) {
  const float* const a0 = a + first_row * stride;
  const float* const a1 = a0 + kSimpleRows / 2 * stride;
  for (int d = 0; d < D; ++d) {
    const float x0 = a0[d], x1 = a1[d];
#pragma unroll
    for (int j = 0; j < kScores; ++j) {
      const float y = b[(lane + j * kRowLanes) * stride + d];
      s[0][j] += x0 * y;
      s[1][j] += x1 * y;
    }
  }
}

// sum[r][c] += sum over i of p[row r][i] * b[i][lane + 8 c]; p as SimpleTile::swizzle() has it,
// which is the same for both rows.
template <typename Tile, int kColumns = Tile::kColumns>
__device__ void add_product(float (&sum)[2][kColumns], const float* p, const float* b, int stride,
                            int D, int count, int first_row, int lane) {
  const float* const p0 = p + first_row * Tile::kKeys;
  const float* const p1 = p0 + kSimpleRows / 2 * Tile::kKeys;
  const int swizzle = Tile::swizzle(first_row);
  for (int i = 0; i < count; ++i) {
    const float x0 = p0[i ^ swizzle], x1 = p1[i ^ swizzle];
    const float* const row = b + i * stride + lane;
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      if (lane + c * kRowLanes >= D) break;
      sum[0][c] += x0 * row[c * kRowLanes];
      sum[1][c] += x1 * row[c * kRowLanes];
    }
  }
}

template <typename T, int kColumns>
__device__ void store_row(const float (&values)[kColumns], float factor, int D, int lane, T* row) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c)
    if (lane + c * kRowLanes < D) row[lane + c * kRowLanes] = narrow<T>(values[c] * factor);
}

}  // namespace mullion::cuda
