// The second stage of sums over rows: 32 columns a block, 32 threads a column, each thread adding
// every 32nd partial sum; then the threads of a column are added in order.
#include "tensor/cuda/reduction/reductions.cuh"

#include <algorithm>

#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

constexpr int kColumns = 32, kThreadsPerColumn = 32;

__global__ void __launch_bounds__(kColumns* kThreadsPerColumn)
    sum_partials_kernel(const float* partials, int64_t count, int64_t pitch, int64_t width,
                        Totals out) {
  SHARED(float, sums, [kThreadsPerColumn][kColumns + 1]);
  float* const total = blockIdx.y == 0 ? out.total[0] : out.total[1];
  if (!total) return;  // for all threads of the block
  const int column = static_cast<int>(threadIdx.x) % kColumns;
  const int part = static_cast<int>(threadIdx.x) / kColumns;
  const int64_t at = int64_t{blockIdx.x} * kColumns + column;
  float sum = 0;
  if (at < width)
    for (int64_t row = part; row < count; row += kThreadsPerColumn)
      sum += partials[row * pitch + int64_t{blockIdx.y} * width + at];
  sums[part][column] = sum;
  __syncthreads();
  if (part != 0 || at >= width) return;
  for (int p = 1; p < kThreadsPerColumn; ++p) sum += sums[p][column];
  total[at] = sum;
}

}  // namespace

void sum_partials(const float* partials, int64_t count, int sums, int64_t width, Totals out) {
  launch("sum_partials", sum_partials_kernel, Grid{(width + kColumns - 1) / kColumns, sums},
         kColumns * kThreadsPerColumn, 0, partials, count, sums * width, width, out);
}

int64_t blocks_of_sum(int64_t rows, int rows_per_block, int per_multiprocessor) {
  const int64_t needed = (rows + rows_per_block - 1) / rows_per_block;
  return std::min(needed, int64_t{per_multiprocessor} * device_facts().multiprocessors);
}

}  // namespace mullion::cuda
