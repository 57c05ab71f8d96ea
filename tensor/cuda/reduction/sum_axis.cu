// Sums over one axis of a contiguous (outer, reduced, inner). Long sums are cut into pieces of a
// fixed size whose sums are summed again by the same kernels, so that the order of additions
// depends on the sizes alone.
#include <algorithm>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kPiece = 16384;      // elements of a row that one block sums
constexpr int64_t kRowsOfThread = 64;  // of a column, or more where the grid would be too large
constexpr int64_t kMostOuter = 4096;   // blocks in the grid's z

template <typename T>
struct Sum {
  const T* x;
  int64_t outer, reduced, inner;
  float alpha;
};

// The sum over the block, known to thread 0.
__device__ __forceinline__ float block_sum(float x) {
  SHARED(float, parts, [kThreads / kWarpSize]);
  x = warp_sum(x);
  if (threadIdx.x % kWarpSize == 0) parts[threadIdx.x / kWarpSize] = x;
  __syncthreads();
  if (threadIdx.x >= kWarpSize) return 0;
  return warp_sum(threadIdx.x < kThreads / kWarpSize ? parts[threadIdx.x] : 0.0f);
}

// y[o, p] = alpha * sum of piece p of row o.
template <int N, typename T, typename Y>
__global__ void __launch_bounds__(kThreads) sum_rows_kernel(Sum<T> in, int64_t pieces, Y* y) {
  const int64_t row = blockIdx.x / pieces, piece = blockIdx.x % pieces;
  const int64_t end = min((piece + 1) * kPiece, in.reduced);
  const T* x = in.x + row * in.reduced;
  float sum = 0;
  for (int64_t i = piece * kPiece + int64_t{threadIdx.x} * N; i < end; i += kThreads * N) {
    const Floats<N> v = load<N>(x + i);
#pragma unroll
    for (int j = 0; j < N; ++j) sum += v.v[j];
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = narrow<Y>(in.alpha * sum);
}

// The same for short rows, a warp each.
template <typename T, typename Y>
__global__ void __launch_bounds__(kThreads) sum_short_rows_kernel(Sum<T> in, Y* y) {
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarpSize) + threadIdx.x / kWarpSize;
  if (row >= in.outer) return;
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  float sum = 0;
  for (int64_t i = lane; i < in.reduced; i += kWarpSize) sum += widen(in.x[row * in.reduced + i]);
  sum = warp_sum(sum);
  if (lane == 0) y[row] = narrow<Y>(in.alpha * sum);
}

// y[o, p, i] = alpha * sum over piece p, `rows` rows. `columns` threads side by side take columns,
// the others of the block further rows; their sums are added in order.
template <typename T, typename Y>
__global__ void __launch_bounds__(kThreads)
    sum_columns_kernel(Sum<T> in, int columns, int64_t rows, int64_t pieces, Y* y) {
  SHARED(float, sums, [kThreads]);
  const int lane = static_cast<int>(threadIdx.x) % columns;
  const int part = static_cast<int>(threadIdx.x) / columns, parts = kThreads / columns;
  const int64_t column = int64_t{blockIdx.x} * columns + lane;
  const int64_t begin = int64_t{blockIdx.y} * rows;
  const int64_t end = min(begin + rows, in.reduced);
  for (int64_t o = blockIdx.z; o < in.outer; o += gridDim.z) {
    const T* x = in.x + o * in.reduced * in.inner + column;
    float sum = 0;
    if (column < in.inner)
      for (int64_t r = begin + part; r < end; r += parts) sum += widen(x[r * in.inner]);
    sums[threadIdx.x] = sum;
    __syncthreads();
    if (part == 0 && column < in.inner) {
      for (int p = 1; p < parts; ++p) sum += sums[p * columns + lane];
      y[(o * pieces + blockIdx.y) * in.inner + column] = narrow<Y>(in.alpha * sum);
    }
    __syncthreads();
  }
}

template <typename T, typename Y>
void launch_rows(const Sum<T>& in, int64_t pieces, Y* y) {
  constexpr int N = 16 / sizeof(T);
  const bool vectors = aligned(in.x) && in.reduced % N == 0;
  launch("sum_rows", vectors ? sum_rows_kernel<N, T, Y> : sum_rows_kernel<1, T, Y>,
         Grid{in.outer * pieces}, kThreads, 0, in, pieces, y);
}

template <typename T, typename Y>
void sum_rows(const Sum<T>& in, Y* y) {
  constexpr int64_t kShort = 512;
  if (in.reduced <= kShort)
    return launch("sum_rows", sum_short_rows_kernel<T, Y>,
                  Grid{blocks_for(in.outer, kThreads / kWarpSize)}, kThreads, 0, in, y);
  const int64_t pieces = (in.reduced + kPiece - 1) / kPiece;
  if (pieces == 1) return launch_rows(in, 1, y);
  const Storage memory = scratch(in.outer * pieces * int64_t{sizeof(float)});
  auto* partial = reinterpret_cast<float*>(memory.data());
  launch_rows(in, pieces, partial);
  sum_rows(Sum<float>{partial, in.outer, pieces, 1, 1.0f}, y);
}

template <typename T, typename Y>
void sum_columns(const Sum<T>& in, Y* y) {
  int columns = kWarpSize;
  while (columns / 2 >= in.inner) columns /= 2;
  const int64_t parts = kThreads / columns;
  const int64_t of_thread = (in.reduced + parts * kMaxGridYZ - 1) / (parts * kMaxGridYZ);
  const int64_t rows = parts * std::max(kRowsOfThread, of_thread);
  const int64_t pieces = std::max<int64_t>(1, (in.reduced + rows - 1) / rows);
  const auto run = [&](auto* out) {
    using Out = std::remove_pointer_t<decltype(out)>;
    launch("sum_columns", sum_columns_kernel<T, Out>,
           Grid{(in.inner + columns - 1) / columns, pieces, std::min(in.outer, kMostOuter)},
           kThreads, 0, in, columns, rows, pieces, out);
  };
  if (pieces == 1) return run(y);
  const Storage memory = scratch(in.outer * pieces * in.inner * int64_t{sizeof(float)});
  auto* partial = reinterpret_cast<float*>(memory.data());
  run(partial);
  sum_columns(Sum<float>{partial, in.outer, pieces, in.inner, 1.0f}, y);
}

}  // namespace

void sum_axis(const SumAxisArgs& args) {
  if (args.outer * args.inner == 0) return;
  dispatch_cuda("sum_axis", args.dtype, [&](auto tag) {
    using T = decltype(tag);
    const Sum<T> in{static_cast<const T*>(args.x), args.outer, args.reduced, args.inner,
                    static_cast<float>(args.alpha)};
    const auto sum = [&](auto* y) { args.inner == 1 ? sum_rows(in, y) : sum_columns(in, y); };
    args.exact ? sum(static_cast<float*>(args.y)) : sum(static_cast<T*>(args.y));
  });
}

}  // namespace mullion::cuda
