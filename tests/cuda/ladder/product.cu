// C = gelu(A W^T + bias), three steps below cuBLASLt: a thread an element; tiles of 32 x 32 in
// shared memory; tiles of 128 x 128 on the tensor cores, fetched ahead by asynchronous copies.
// docs/kernels.md draws them.
#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/runtime/launch.h"
#include "tensor/elementwise.h"
#include "tests/cuda/ladder/ladder.h"

namespace mullion::ladder {
namespace {
using namespace cuda;  // NOLINT

struct Product {
  const Bf16 *a, *w;
  const float* bias;
  Bf16* c;
  int m, n, k;
};

// What follows the sum, in registers: the epilogue that saves a pass over C.
__device__ __forceinline__ void finish(const Product& p, int row, int column, float sum) {
  if (row < p.m && column < p.n)
    p.c[int64_t{row} * p.n + column] = narrow<Bf16>(Gelu::value(sum + p.bias[column]));
}

// Reads 2 k elements for each element of C: 1 operation a byte.
__global__ void __launch_bounds__(256) thread_an_element(Product p) {
  const int column = static_cast<int>(blockIdx.x * 16 + threadIdx.x % 16);
  const int row = static_cast<int>(blockIdx.y * 16 + threadIdx.x / 16);
  if (row >= p.m || column >= p.n) return;
  float sum = 0;
  for (int i = 0; i < p.k; ++i)
    sum += widen(p.a[int64_t{row} * p.k + i]) * widen(p.w[int64_t{column} * p.k + i]);
  finish(p, row, column, sum);
}

// Each element of A and W is read once a tile and used 32 times: 16 operations a byte.
constexpr int kTile = 32;
__global__ void __launch_bounds__(kTile* kTile) shared_tiles(Product p) {
  SHARED(float, a, [kTile][kTile + 1]);  // a column more: no two lanes of a warp in one bank
  SHARED(float, w, [kTile][kTile + 1]);
  const int tx = static_cast<int>(threadIdx.x) % kTile, ty = static_cast<int>(threadIdx.x) / kTile;
  const int row = static_cast<int>(blockIdx.y) * kTile + ty;
  const int w_row = static_cast<int>(blockIdx.x) * kTile + ty;
  float sum = 0;
  for (int k0 = 0; k0 < p.k; k0 += kTile) {
    const bool inside = k0 + tx < p.k;
    a[ty][tx] = inside && row < p.m ? widen(p.a[int64_t{row} * p.k + k0 + tx]) : 0.0f;
    w[ty][tx] = inside && w_row < p.n ? widen(p.w[int64_t{w_row} * p.k + k0 + tx]) : 0.0f;
    __syncthreads();
    for (int i = 0; i < kTile; ++i) sum += a[ty][i] * w[tx][i];
    __syncthreads();
  }
  finish(p, row, static_cast<int>(blockIdx.x) * kTile + tx, sum);
}

// 64 operations a byte from global memory; 8 warps as 2 x 4, each with 64 x 32 of C in registers.
constexpr int kBlock = 128, kDepth = 32, kMmaThreads = 256, kChunk = 8;
constexpr int kStage = 2 * kBlock * kDepth;  // elements of A's and W's tiles

// A row of a tile is four chunks of 16 bytes, two rows a line of the 32 banks. The chunks of a row
// change places with the row, so that the eight rows that one ldmatrix reads lie in eight places.
__device__ __forceinline__ int place(int row, int chunk) {
  return row * kDepth + (chunk ^ (row / 2 % 4)) * kChunk;
}

// Starts the copies of rows [first, first + 128) x [k0, k0 + 32) of x; zeros outside.
__device__ __forceinline__ void fetch(const Bf16* x, int first, int rows, int k, int k0,
                                      Bf16* tile) {
  for (int i = static_cast<int>(threadIdx.x); i < kBlock * kDepth / kChunk; i += kMmaThreads) {
    const int row = i / 4, chunk = i % 4, at = k0 + chunk * kChunk;
    const bool inside = first + row < rows && at < k;
    const int64_t from = inside ? int64_t{first + row} * k + at : 0;
    cp_async_16(tile + place(row, chunk), x + from, inside);
  }
}

__global__ void __launch_bounds__(kMmaThreads) tensor_cores(Product p) {
  DYNAMIC_SHARED(Bf16, tiles);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int first_row = static_cast<int>(blockIdx.y) * kBlock, m0 = warp / 4 * 64;
  const int first_column = static_cast<int>(blockIdx.x) * kBlock, n0 = warp % 4 * 32;
  const auto fetch_stage = [&](int step) {
    Bf16* stage = tiles + step % 2 * kStage;
    fetch(p.a, first_row, p.m, p.k, step * kDepth, stage);
    fetch(p.w, first_column, p.n, p.k, step * kDepth, stage + kBlock * kDepth);
    cp_async_commit();
  };

  float sums[4][4][4] = {};  // 4 x 4 products of 16 x 8
  const int steps = (p.k + kDepth - 1) / kDepth;
  fetch_stage(0);
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) {
      fetch_stage(step + 1);
      cp_async_wait<1>();
    } else {
      cp_async_wait<0>();
    }
    __syncthreads();  // everybody's copies of this step have come
    const Bf16 *a = tiles + step % 2 * kStage, *w = a + kBlock * kDepth;
#pragma unroll
    for (int half = 0; half < 2; ++half) {  // 16 of the 32 columns
      uint32_t fa[4][4], fw[2][4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        ldmatrix_x4(fa[i], a + place(m0 + i * 16 + lane % 16, half * 2 + lane / 16));
#pragma unroll
      for (int j = 0; j < 2; ++j)  // two products' columns at once
        ldmatrix_x4(fw[j],
                    w + place(n0 + j * 16 + lane % 8 + lane / 16 * 8, half * 2 + lane / 8 % 2));
#pragma unroll
      for (int i = 0; i < 4; ++i)
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const uint32_t b[2] = {fw[j / 2][j % 2 * 2], fw[j / 2][j % 2 * 2 + 1]};
          mma_16816(sums[i][j], fa[i], b);
        }
    }
    __syncthreads();  // nobody reads this stage when the copies of the step after next begin
  }
#pragma unroll
  for (int i = 0; i < 4; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int e = 0; e < 4; ++e)
        finish(p, first_row + m0 + i * 16 + lane / 4 + e / 2 * 8,
               first_column + n0 + j * 8 + lane % 4 * 2 + e % 2, sums[i][j][e]);
}

void run(const char* name, void (*kernel)(Product), const ProductArgs& args, int tile, int threads,
         size_t shared) {
  launch(name, kernel, Grid{(args.n + tile - 1) / tile, (args.m + tile - 1) / tile}, threads,
         shared,
         Product{static_cast<const Bf16*>(args.a), static_cast<const Bf16*>(args.w), args.bias,
                 static_cast<Bf16*>(args.c), static_cast<int>(args.m), static_cast<int>(args.n),
                 static_cast<int>(args.k)});
}

}  // namespace

void product_thread_an_element(const ProductArgs& args) {
  run("product_thread_an_element", thread_an_element, args, 16, 256, 0);
}
void product_shared_tiles(const ProductArgs& args) {
  run("product_shared_tiles", shared_tiles, args, kTile, kTile * kTile, 0);
}
void product_tensor_cores(const ProductArgs& args) {
  CHECK(args.k % kChunk == 0, "product_tensor_cores: needs rows of a multiple of 8 elements");
  run("product_tensor_cores", tensor_cores, args, kBlock, kMmaThreads, 2 * kStage * sizeof(Bf16));
}

}  // namespace mullion::ladder
