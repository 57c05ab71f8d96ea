// RMSNorm, three steps below tensor/cuda/reduction/rms_norm.cu: a thread a row, a warp a row, a
// block a row with 16 bytes a load. All of them read the row twice.
#include "tensor/cuda/reduction/reductions.cuh"
#include "tests/cuda/ladder/ladder.h"

namespace mullion::ladder {
namespace {
using namespace cuda;  // NOLINT

struct Rows {
  int64_t rows;
  int width;
  float eps;
};

// The lanes of a warp read addresses `width` elements apart: of each 32-byte sector that memory
// sends, one element is used at a time.
template <typename T>
__global__ void __launch_bounds__(128)
    thread_a_row(const T* x, const float* weight, T* y, float* rstd, Rows size) {
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= size.rows) return;
  x += row * size.width;
  y += row * size.width;
  float squares = 0;
  for (int i = 0; i < size.width; ++i) squares += widen(x[i]) * widen(x[i]);
  const float scale = 1.0f / sqrtf(squares / static_cast<float>(size.width) + size.eps);
  rstd[row] = scale;
  for (int i = 0; i < size.width; ++i) y[i] = narrow<T>(widen(x[i]) * scale * weight[i]);
}

// The lanes read neighbouring elements and add up by shuffles.
template <typename T>
__global__ void __launch_bounds__(128)
    warp_a_row(const T* x, const float* weight, T* y, float* rstd, Rows size) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int64_t row = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / kWarpSize;
  if (row >= size.rows) return;
  x += row * size.width;
  y += row * size.width;
  float squares = 0;
  for (int i = lane; i < size.width; i += kWarpSize) squares += widen(x[i]) * widen(x[i]);
  const float mean = warp_sum(squares) / static_cast<float>(size.width);
  const float scale = 1.0f / sqrtf(mean + size.eps);
  if (lane == 0) rstd[row] = scale;
  for (int i = lane; i < size.width; i += kWarpSize)
    y[i] = narrow<T>(widen(x[i]) * scale * weight[i]);
}

// A thread reads 8 neighbouring elements at once; the warps' sums meet in shared memory.
constexpr int kThreads = 256, kVector = 8;
template <typename T>
__global__ void __launch_bounds__(kThreads)
    block_a_row(const T* x, const float* weight, T* y, float* rstd, Rows size) {
  const int64_t row = blockIdx.x;
  x += row * size.width;
  y += row * size.width;
  float squares = 0;
  const int first = static_cast<int>(threadIdx.x) * kVector;
  for (int i = first; i < size.width; i += kThreads * kVector) {
    const cuda::Floats<kVector> v = load<kVector>(x + i);
    for (const float e : v.v) squares += e * e;
  }
  const float mean = group_sum<kThreads>(squares) / static_cast<float>(size.width);
  const float scale = 1.0f / sqrtf(mean + size.eps);
  if (threadIdx.x == 0) rstd[row] = scale;
  for (int i = first; i < size.width; i += kThreads * kVector) {
    cuda::Floats<kVector> v = load<kVector>(x + i);
    const cuda::Floats<kVector> w = load<kVector>(weight + i);
    for (int e = 0; e < kVector; ++e) v.v[e] *= scale * w.v[e];
    store(y + i, v);
  }
}

template <typename Kernel>
void run(const char* name, const RmsNormArgs& args, int64_t rows_per_block, int threads,
         Kernel kernel) {
  dispatch_cuda(name, args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Rows size{args.rows, static_cast<int>(args.width), static_cast<float>(args.eps)};
    launch(name, kernel(zero), Grid{(args.rows + rows_per_block - 1) / rows_per_block}, threads, 0,
           static_cast<const T*>(args.x), static_cast<const float*>(args.weight),
           static_cast<T*>(args.y), static_cast<float*>(args.rstd), size);
  });
}

}  // namespace

void rms_norm_thread_a_row(const RmsNormArgs& args) {
  run("rms_norm_thread_a_row", args, 128, 128,
      [](auto zero) { return thread_a_row<decltype(zero)>; });
}
void rms_norm_warp_a_row(const RmsNormArgs& args) {
  run("rms_norm_warp_a_row", args, 4, 128, [](auto zero) { return warp_a_row<decltype(zero)>; });
}
void rms_norm_block_a_row(const RmsNormArgs& args) {
  CHECK(args.width % kVector == 0 && aligned(args.x, args.weight, args.y),
        "rms_norm_block_a_row: needs aligned rows of a multiple of 8 elements");
  run("rms_norm_block_a_row", args, 1, kThreads,
      [](auto zero) { return block_a_row<decltype(zero)>; });
}

}  // namespace mullion::ladder
