// Products with matrices of blocks. For few rows of x a warp computes a column of y: its lanes read
// neighbouring elements of W's row, unpack them in registers and multiply them with each row of x.
// For more rows, and backward, panels of W are widened into scratch memory, in the type of x, and
// multiplied by the library.
#include <algorithm>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/matmul/block_values.cuh"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/intrinsics.cuh"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int64_t kPanelBytes = int64_t{256} << 20;

template <typename T>
struct FewRows {
  const T* x;
  const uint8_t* blocks;
  T* y;
  const float* bias;
  const T* residual;
  int m;
  int64_t rows, width, row_bytes;
  float alpha, beta;
};

template <typename Tag, typename T>
__global__ void __launch_bounds__(kThreads) few_rows_kernel(FewRows<T> p) {
  constexpr int kMost = kFewBlockRows;
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;  // a whole warp
  const uint8_t* const w = p.blocks + row * p.row_bytes;
  float sum[kMost] = {};
  for (int64_t i = threadIdx.x % 32; i < p.width; i += 32) {
    const float value = Tag::value(w, i);
#pragma unroll
    for (int r = 0; r < kMost; ++r)
      if (r < p.m) sum[r] += value * widen(p.x[r * p.width + i]);
  }
#pragma unroll
  for (int r = 0; r < kMost; ++r) {
    if (r >= p.m) break;
    float total = p.alpha * warp_sum(sum[r]);
    if (threadIdx.x % 32 != 0) continue;
    const int64_t at = r * p.rows + row;
    if (p.beta != 0) total += p.beta * widen(p.y[at]);
    if (p.bias) total += p.bias[row];
    if (p.residual) total += widen(p.residual[at]);
    p.y[at] = narrow<T>(total);
  }
}

// Rows of W, those of `ids` or from `first` on, in T: a thread an element.
template <typename Tag, typename T>
__global__ void __launch_bounds__(kThreads)
    widen_kernel(const uint8_t* blocks, const int64_t* ids, int64_t first, T* y, int64_t count,
                 int64_t width, int64_t row_bytes) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count * width) return;
  const int64_t row = ids ? ids[i / width] : first + i / width;
  y[i] = narrow<T>(Tag::value(blocks + row * row_bytes, i % width));
}

template <typename Tag, typename T>
void widen_rows(const void* blocks, const int64_t* ids, int64_t first, T* y, int64_t count,
                int64_t width) {
  if (count == 0) return;
  launch("block_rows", widen_kernel<Tag, T>, Grid{blocks_for(count * width, kThreads)}, kThreads, 0,
         static_cast<const uint8_t*>(blocks), ids, first, y, count, width,
         width / Tag::kElements * Tag::kBytes);
}

template <typename Tag, typename T>
void few_rows(const BlockMatmulArgs& args) {
  const FewRows<T> p{static_cast<const T*>(args.x),
                     static_cast<const uint8_t*>(args.blocks),
                     static_cast<T*>(args.y),
                     static_cast<const float*>(args.bias),
                     static_cast<const T*>(args.residual),
                     static_cast<int>(args.m),
                     args.rows,
                     args.width,
                     args.width / Tag::kElements * Tag::kBytes,
                     static_cast<float>(args.alpha),
                     static_cast<float>(args.beta)};
  launch("block_matmul", few_rows_kernel<Tag, T>, Grid{blocks_for(args.rows, kWarps)}, kThreads, 0,
         p);
}

// Panel after panel of W's rows: forward they are columns of y, backward terms of it.
template <typename Tag, typename T>
void by_panels(const BlockMatmulArgs& args) {
  const int64_t row = args.width * int64_t{sizeof(T)};
  const int64_t step = std::min(args.rows, std::max<int64_t>(1, kPanelBytes / row / 256 * 256));
  const Storage panel = scratch(step * row);
  for (int64_t first = 0; first < args.rows; first += step) {
    const int64_t count = std::min(step, args.rows - first);
    widen_rows<Tag>(args.blocks, nullptr, first, reinterpret_cast<T*>(panel.data()), count,
                    args.width);
    MatmulArgs p{.a = args.x,
                 .b = panel.data(),
                 .c = args.y,
                 .a_type = args.dtype,
                 .b_type = args.dtype,
                 .c_type = args.dtype,
                 .m = args.m,
                 .n = args.backward ? args.width : count,
                 .k = args.backward ? count : args.width,
                 .transpose_b = !args.backward,
                 .lda = args.backward ? args.rows : args.width,
                 .ldb = args.width,
                 .ldc = args.backward ? args.width : args.rows,
                 .alpha = args.alpha,
                 .beta = args.beta,
                 .allow_tf32 = args.allow_tf32};
    if (args.backward) {
      p.a = static_cast<const T*>(args.x) + first;
      if (first > 0) p.beta = 1;
    } else {
      p.c = static_cast<T*>(args.y) + first;
      if (args.bias) p.bias = static_cast<const float*>(args.bias) + first;
      if (args.residual) p.residual = static_cast<const T*>(args.residual) + first;
    }
    matmul(p);
  }
}

}  // namespace

void block_matmul(const BlockMatmulArgs& args) {
  if (args.m == 0) return;
  DCHECK(!args.backward || (!args.bias && !args.residual));
  dispatch_blocks("block_matmul", args.type, [&](auto tag) {
    using Tag = decltype(tag);
    dispatch_cuda("block_matmul", args.dtype, [&](auto zero) {
      using T = decltype(zero);
      !args.backward&& args.m <= kFewBlockRows ? few_rows<Tag, T>(args) : by_panels<Tag, T>(args);
    });
  });
}

void block_rows(const BlockRowsArgs& args) {
  dispatch_blocks("block_rows", args.type, [&](auto tag) {
    dispatch_cuda("block_rows", args.dtype, [&](auto zero) {
      widen_rows<decltype(tag)>(args.blocks, args.ids, 0, static_cast<decltype(zero)*>(args.y),
                                args.count, args.width);
    });
  });
}

}  // namespace mullion::cuda
