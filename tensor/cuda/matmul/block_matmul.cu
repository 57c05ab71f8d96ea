// Products with matrices of blocks. For few rows of x a warp computes a column of y: its lanes read
// neighbouring elements of W's row, unpack them in registers and multiply them with each row of x.
// Where x may be rounded (tensor/rounded_products.h) it is, to 8 bits as on the CPU
// (tensor/cpu/block_dots.h), and four elements are one instruction, __dp4a. For more rows, and
// backward, panels of W are widened into scratch memory, in the type of x, and multiplied by the
// library.
#include <algorithm>
#include <cmath>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/matmul/block_values.cuh"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/intrinsics.cuh"
#include "tensor/cuda/runtime/runtime.h"
#include "tensor/rounded_products.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;
constexpr int64_t kPanelBytes = int64_t{256} << 20;
constexpr int kGroup = 32, kScaled = 16;  // elements with a scale: of x, of W

template <typename T>
struct Rows {
  const T* x;
  const uint8_t* blocks;
  T* y;
  const float* bias;
  const T* residual;
  int64_t m, rows, width, row_bytes;
  float alpha, beta;

  explicit Rows(const BlockMatmulArgs& args, int64_t bytes)
      : x(static_cast<const T*>(args.x)),
        blocks(static_cast<const uint8_t*>(args.blocks)),
        y(static_cast<T*>(args.y)),
        bias(static_cast<const float*>(args.bias)),
        residual(static_cast<const T*>(args.residual)),
        m(args.m),
        rows(args.rows),
        width(args.width),
        row_bytes(bytes),
        alpha(static_cast<float>(args.alpha)),
        beta(static_cast<float>(args.beta)) {}
};

// Column `row` of y for `m` rows from `first` on, from what each lane has of their sums.
template <typename T>
__device__ __forceinline__ void finish(const Rows<T>& p, int64_t row, int64_t first, int m,
                                       const float (&sum)[kFewBlockRows]) {
#pragma unroll
  for (int r = 0; r < kFewBlockRows; ++r) {
    if (r >= m) break;
    float total = p.alpha * warp_sum(sum[r]);
    if (threadIdx.x % 32 != 0) continue;
    const int64_t at = (first + r) * p.rows + row;
    if (p.beta != 0) total += p.beta * widen(p.y[at]);
    if (p.bias) total += p.bias[row];
    if (p.residual) total += widen(p.residual[at]);
    p.y[at] = narrow<T>(total);
  }
}

template <typename Tag, typename T>
__global__ void __launch_bounds__(kThreads) few_rows_kernel(Rows<T> p) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;  // a whole warp
  const uint8_t* const w = p.blocks + row * p.row_bytes;
  const int m = static_cast<int>(p.m);
  float sum[kFewBlockRows] = {};
  for (int64_t i = threadIdx.x % 32; i < p.width; i += 32) {
    const float value = Tag::value(w, i);
#pragma unroll
    for (int r = 0; r < kFewBlockRows; ++r)
      if (r < m) sum[r] += value * widen(p.x[r * p.width + i]);
  }
  finish(p, row, 0, m, sum);
}

// Rows of x rounded to 8 bits: x = scale q, a scale for each 32 elements; and the sum of each 16 q.
struct Rounded {
  int8_t* q;
  float* scale;
  int* sum;
};

// A warp a group of 32. A group with a NaN or an infinity has a scale of NaN.
template <typename T>
__global__ void __launch_bounds__(kThreads) round_kernel(const T* x, Rounded to, int64_t groups) {
  const int64_t group = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (group >= groups) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const float value = widen(x[group * kGroup + lane]);
  const bool is_bad = __any_sync(kFullMask, !std::isfinite(value)) != 0;
  const float d = warp_max(fabsf(value)) / 127, r = d > 0 ? 1 / d : 0;
  const int q = !is_bad && std::isfinite(r) ? __float2int_rn(value * r) : 0;
  int sum = q;
  for (int bit = kScaled / 2; bit > 0; bit /= 2) sum += __shfl_xor_sync(kFullMask, sum, bit);
  to.q[group * kGroup + lane] = static_cast<int8_t>(q);
  if (lane % kScaled == 0) to.sum[2 * group + lane / kScaled] = sum;
  if (lane == 0) to.scale[group] = is_bad ? NAN : d;
}

// A warp a row of W, for kFewBlockRows rows of x; a lane has 16 elements at a time.
template <typename Tag, typename T>
__global__ void __launch_bounds__(kThreads) rounded_rows_kernel(Rows<T> p, Rounded x) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (row >= p.rows) return;
  const uint8_t* const w = p.blocks + row * p.row_bytes;
  const int64_t first = int64_t{blockIdx.y} * kFewBlockRows;
  const int m = static_cast<int>(min(kFewBlockRows, p.m - first));
  float sum[kFewBlockRows] = {};
  for (int64_t i = int64_t{threadIdx.x % 32} * kScaled; i < p.width; i += 32 * kScaled) {
    const PartScale part = Tag::scale(w, i);
    int u[kScaled / 4];
#pragma unroll
    for (int j = 0; j < kScaled / 4; ++j) u[j] = static_cast<int>(Tag::four(w, i + 4 * j));
#pragma unroll
    for (int r = 0; r < kFewBlockRows; ++r) {
      if (r >= m) break;
      const int64_t at = (first + r) * p.width + i;
      const uint4 q = load_vector<uint4>(x.q + at);
      const int total = x.sum[at / kScaled];
      const float scale = x.scale[at / kGroup];
      int dot = __dp4a(u[0], static_cast<int>(q.x), -Tag::kCentre * total);
      dot = __dp4a(u[1], static_cast<int>(q.y), dot);
      dot = __dp4a(u[2], static_cast<int>(q.z), dot);
      dot = __dp4a(u[3], static_cast<int>(q.w), dot);
      sum[r] += part.scale * scale * static_cast<float>(dot);
      if constexpr (Tag::kHasMinimum) sum[r] -= part.minimum * (scale * static_cast<float>(total));
    }
  }
  finish(p, row, first, m, sum);
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
Rows<T> rows_of(const BlockMatmulArgs& args) {
  return Rows<T>(args, args.width / Tag::kElements * Tag::kBytes);
}

template <typename Tag, typename T>
void few_rows(const BlockMatmulArgs& args) {
  launch("block_matmul", few_rows_kernel<Tag, T>, Grid{blocks_for(args.rows, kWarps)}, kThreads, 0,
         rows_of<Tag, T>(args));
}

template <typename Tag, typename T>
void rounded_rows(const BlockMatmulArgs& args) {
  const int64_t n = args.m * args.width;  // its parts lie one after another
  const Storage memory =
      scratch(n + n / kGroup * int64_t{sizeof(float)} + n / kScaled * int64_t{sizeof(int)});
  Rounded x{};
  x.q = reinterpret_cast<int8_t*>(memory.data());
  x.scale = reinterpret_cast<float*>(memory.data() + n);
  x.sum = reinterpret_cast<int*>(x.scale + n / kGroup);
  launch("block_matmul", round_kernel<T>, Grid{blocks_for(n / kGroup, kWarps)}, kThreads, 0,
         static_cast<const T*>(args.x), x, n / kGroup);
  launch("block_matmul", rounded_rows_kernel<Tag, T>,
         Grid{blocks_for(args.rows, kWarps), (args.m + kFewBlockRows - 1) / kFewBlockRows},
         kThreads, 0, rows_of<Tag, T>(args), x);
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
      if (args.backward) return by_panels<Tag, T>(args);
      if (RoundedProducts::allowed()) return rounded_rows<Tag, T>(args);
      args.m <= kFewBlockRows ? few_rows<Tag, T>(args) : by_panels<Tag, T>(args);
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
