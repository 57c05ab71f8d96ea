// The gradients of a normalisation's weight and bias where a row is too wide to keep their sums in
// registers: a pass of its own over x and g, a thread a column.
#pragma once
#include "tensor/cuda/reduction/reductions.cuh"

namespace mullion::cuda {

template <typename T>
struct NormColumns {
  const T *x, *g;
  const float *mean, *rstd;  // one a row; mean is null for RMSNorm
  int64_t rows, width;
};

// total[0] = sum over rows of g (x - mean) rstd, total[1] = sum over rows of g; each may be null.
constexpr int kColumnThreads = 256;
constexpr int64_t kRowsOfPartial = 64;

template <typename T>
__global__ void __launch_bounds__(kColumnThreads)
    norm_columns_kernel(NormColumns<T> in, float* partials) {
  const int64_t column = int64_t{blockIdx.x} * kColumnThreads + threadIdx.x;
  if (column >= in.width) return;
  const int64_t begin = int64_t{blockIdx.y} * kRowsOfPartial;
  const int64_t end = begin + kRowsOfPartial < in.rows ? begin + kRowsOfPartial : in.rows;
  float weight = 0, bias = 0;
  for (int64_t row = begin; row < end; ++row) {
    const float g = widen(in.g[row * in.width + column]);
    const float x = widen(in.x[row * in.width + column]);
    weight += g * (x - (in.mean ? in.mean[row] : 0.0f)) * in.rstd[row];
    bias += g;
  }
  float* const sums = partials + 2 * int64_t{blockIdx.y} * in.width + column;
  sums[0] = weight;
  sums[in.width] = bias;
}

// total[0] = sum over rows of g (x - mean) rstd, total[1] = sum over rows of g; each may be null.
template <typename T>
void sum_norm_columns(const NormColumns<T>& in, Totals out) {
  const int64_t columns = (in.width + kColumnThreads - 1) / kColumnThreads;
  const int64_t blocks = (in.rows + kRowsOfPartial - 1) / kRowsOfPartial;
  const Storage memory = scratch(2 * blocks * in.width * int64_t{sizeof(float)});
  auto* partials = reinterpret_cast<float*>(memory.data());
  launch("norm_columns", norm_columns_kernel<T>, Grid{columns, blocks}, kColumnThreads, 0, in,
         partials);
  sum_partials(partials, blocks, 2, in.width, out);
}

}  // namespace mullion::cuda
