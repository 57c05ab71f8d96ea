// Sums in a fixed order: over the group of threads that shares a row (rows.cuh), and over the
// partial sums of many groups. The sum over rows that a weight's gradient needs has two stages:
// each group adds up its own rows in registers, then sum_partials() adds the groups, in order. No
// atomics, so the same input gives the same bits.
#pragma once
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {

namespace detail {
// Combines one value of each warp of a block of G threads.
template <int G, typename Combine>
__device__ __forceinline__ float over_warps(float x, float neutral, Combine combine) {
  SHARED(float, parts, [G / kWarpSize]);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  __syncthreads();  // an earlier result may still be being read
  if (lane == 0) parts[warp] = x;
  __syncthreads();
  return combine(lane < G / kWarpSize ? parts[lane] : neutral);
}
}  // namespace detail

// The sum, or the largest, over a group of G threads, known to all of them.
template <int G>
__device__ __forceinline__ float group_sum(float x) {
  x = warp_sum(x);
  if constexpr (G > kWarpSize)
    x = detail::over_warps<G>(x, 0.0f, [](float part) { return warp_sum(part); });
  return x;
}
template <int G>
__device__ __forceinline__ float group_max(float x) {
  x = warp_max(x);
  if constexpr (G > kWarpSize)
    x = detail::over_warps<G>(x, -INFINITY, [](float part) { return warp_max(part); });
  return x;
}

// Sums of columns in `count` rows of partial sums, for each of `sums` results of `width` columns:
// partials is (count, sums, width). `total[s]` may be null.
struct Totals {
  float* total[2];
};
void sum_partials(const float* partials, int64_t count, int sums, int64_t width, Totals out);

// How many blocks share the rows of a sum over rows: as many as a multiprocessor holds at a time,
// on each, and no more.
int64_t blocks_of_sum(int64_t rows, int rows_per_block, int per_multiprocessor);

// That number for blocks of `threads` threads of which `resident` find registers: at least two, so
// that one can compute while the other waits for a barrier.
constexpr int blocks_per_multiprocessor(int threads, int resident) {
  return resident / threads > 2 ? resident / threads : 2;
}

}  // namespace mullion::cuda
