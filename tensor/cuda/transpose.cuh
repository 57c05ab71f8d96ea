// Copies in which neighbours of the source are not neighbours in the target: by tiles of 32 x 32
// elements in shared memory, so that both are touched in whole sectors.
#pragma once
#include <optional>

#include "tensor/cuda/map.cuh"
#include "tensor/cuda/strided.cuh"

namespace mullion::cuda {

constexpr int kTransposeSide = 32, kTransposeRows = 8;  // of a tile; that its threads move at once

// The two axes that are exchanged, and the others. Strides in elements.
struct Transpose {
  DeviceSpace<2> others;
  int64_t count = 1;      // of matrices: the others together
  int64_t rows, columns;  // rows lie side by side in the source, columns in the target
  int64_t source_step;    // between columns
  int64_t target_step;    // between rows
  int64_t row_tiles, column_tiles;
  __host__ __device__ int64_t blocks() const { return count * row_tiles * column_tiles; }
};

// Not where an axis is so short that most of a tile would be empty.
inline std::optional<Transpose> as_transpose(const StridedSpace<2>& space) {
  constexpr int64_t kLeast = kTransposeSide / 2;
  const auto at = StridedSpace<2>::at;
  const int inner = space.rank - 1;
  if (space.inner_stride(1) != 1 || space.inner_stride(0) == 1) return std::nullopt;
  int rows = 0;
  while (rows < inner && space.stride[0][at(rows)] != 1) ++rows;
  if (rows == inner || space.size[at(rows)] < kLeast || space.inner() < kLeast) return std::nullopt;
  Transpose t{};
  t.rows = space.size[at(rows)], t.columns = space.inner();
  t.source_step = space.inner_stride(0), t.target_step = space.stride[1][at(rows)];
  t.row_tiles = (t.rows + kTransposeSide - 1) / kTransposeSide;
  t.column_tiles = (t.columns + kTransposeSide - 1) / kTransposeSide;
  t.count = 1;
  for (int axis = 0; axis < inner; ++axis) {
    if (axis == rows) continue;
    const int to = t.others.rank++;
    t.others.size[to] = space.size[at(axis)];
    for (size_t k = 0; k < 2; ++k) t.others.stride[k][to] = space.stride[k][at(axis)];
    t.count *= space.size[at(axis)];
  }
  return t;
}

template <typename Unit>
__global__ void __launch_bounds__(kTransposeSide* kTransposeRows)
    transpose_kernel(Transpose t, const Unit* source, Unit* target) {
  // Rows of an odd number of banks: no two of a column in one.
  constexpr int kPadding = sizeof(Unit) < 4 ? 4 / sizeof(Unit) : 1;
  SHARED(Unit, tile, [kTransposeSide][kTransposeSide + kPadding]);
  const int x = static_cast<int>(threadIdx.x) % kTransposeSide;
  const int y = static_cast<int>(threadIdx.x) / kTransposeSide;
  for (int64_t block = blockIdx.x; block < t.blocks(); block += gridDim.x) {
    int64_t offset[2];
    const int64_t pair = block / t.column_tiles;
    offsets_of(t.others, pair / t.row_tiles, offset);
    const int64_t row0 = pair % t.row_tiles * kTransposeSide;
    const int64_t column0 = block % t.column_tiles * kTransposeSide;
    __syncthreads();  // the tile before has been read
#pragma unroll
    for (int i = y; i < kTransposeSide; i += kTransposeRows)
      if (row0 + x < t.rows && column0 + i < t.columns)
        tile[i][x] = source[offset[0] + row0 + x + (column0 + i) * t.source_step];
    __syncthreads();
#pragma unroll
    for (int i = y; i < kTransposeSide; i += kTransposeRows)
      if (row0 + i < t.rows && column0 + x < t.columns)
        target[offset[1] + (row0 + i) * t.target_step + column0 + x] = tile[x][i];
  }
}

}  // namespace mullion::cuda
