// The gradient of a lookup: dtable[r] is the sum of the g[i] with ids[i] = r in the order of i, so
// that it is deterministic. First the positions i are put in the order of their ids: a block for
// each of about 256 buckets of neighbouring rows picks the positions of its bucket, in order, and
// deals them out to the rows, a thread a row. Then each row adds up its list. The ids are read
// twice a bucket, from the caches; a row without positions costs its zeros.
#include <algorithm>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/reduction/reductions.cuh"

namespace mullion::cuda {
namespace {

constexpr int kBucketThreads = 512, kBucketWarps = kBucketThreads / kWarpSize;
constexpr int kGatherThreads = 128, kRowsPerGather = 8;

// Positions by rows: those of row r are sorted[start[r]] .. sorted[start[r + 1] - 1].
struct Positions {
  int *start, *sorted;
  int *position, *row;  // by buckets: i and ids[i]
};

// The sum of the block's values up to and with this thread's; `total` is that of all.
__device__ __forceinline__ int running_sum(int x, int& total) {
  SHARED(int, sums, [kBucketWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int step = 1; step < kWarpSize; step *= 2) {
    const int before = __shfl_up_sync(kFullMask, x, static_cast<unsigned>(step));
    if (lane >= step) x += before;
  }
  __syncthreads();  // earlier sums may still be being read
  if (lane == kWarpSize - 1) sums[warp] = x;
  __syncthreads();
  total = 0;
  for (int w = 0; w < kBucketWarps; ++w) {
    if (w < warp) x += sums[w];
    total += sums[w];
  }
  return x;
}

// The number of positions in rows [0, row).
__device__ __forceinline__ int count_below(const int64_t* ids, int count, int64_t row) {
  int below = 0, total = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kBucketThreads) below += ids[i] < row;
  running_sum(below, total);
  return total;
}

// Writes position and row of the ids in [first, last) from `begin` on, in order; returns the end.
__device__ __forceinline__ int copy_bucket(const int64_t* ids, int count, int64_t first,
                                           int64_t last, int begin, Positions out) {
  for (int tile = 0; tile < count; tile += kBucketThreads) {
    const int i = tile + static_cast<int>(threadIdx.x);
    const int64_t id = i < count ? ids[i] : -1;
    const bool mine = id >= first && id < last;
    int found = 0;
    const int place = begin + running_sum(mine, found) - 1;
    if (mine) {
      out.position[place] = i;
      out.row[place] = static_cast<int>(id - first);
    }
    begin += found;
  }
  return begin;
}

__global__ void __launch_bounds__(kBucketThreads)
    sort_positions_kernel(const int64_t* ids, int count, int64_t rows, int bucket_rows,
                          Positions out) {
  const int64_t first = int64_t{blockIdx.x} * bucket_rows;
  const int here = static_cast<int>(rows - first < bucket_rows ? rows - first : bucket_rows);
  const int begin = count_below(ids, count, first);
  const int end = copy_bucket(ids, count, first, first + here, begin, out);
  __syncthreads();     // the bucket is complete
  int before = begin;  // positions in the rows of earlier rounds
  for (int round = 0; round < here; round += kBucketThreads) {
    const int row = round + static_cast<int>(threadIdx.x);
    int terms = 0, total = 0;
    for (int j = begin; j < end; ++j) terms += out.row[j] == row;
    int place = before + running_sum(terms, total) - terms;
    before += total;
    if (row >= here) continue;
    out.start[first + row] = place;
    for (int j = begin; j < end; ++j)
      if (out.row[j] == row) out.sorted[place++] = out.position[j];
  }
  if (first + here == rows && threadIdx.x == 0) out.start[rows] = end;
}

template <typename T, int N>
__global__ void __launch_bounds__(kGatherThreads)
    gather_rows_kernel(const T* g, const int* start, const int* sorted, T* dtable, int64_t rows,
                       int64_t width) {
  const int64_t at = (int64_t{blockIdx.y} * kGatherThreads + threadIdx.x) * N;
  if (at >= width) return;
  const int64_t first = int64_t{blockIdx.x} * kRowsPerGather;
  const int64_t last = first + kRowsPerGather < rows ? first + kRowsPerGather : rows;
  for (int64_t row = first; row < last; ++row) {
    Floats<N> sum = {};
    const int end = start[row + 1];
#pragma unroll 4
    for (int j = start[row]; j < end; ++j) {
      const Floats<N> term = load<N>(g + sorted[j] * width + at);
#pragma unroll
      for (int i = 0; i < N; ++i) sum.v[i] += term.v[i];
    }
    store(dtable + row * width + at, sum);
  }
}

// Rows of a bucket: few enough for a thread each, many enough that the ids are not read too often.
int bucket_rows(int64_t rows) {
  return static_cast<int>(std::clamp<int64_t>((rows + 255) / 256, 1, kBucketThreads));
}

template <typename T, int N>
void gather(const EmbeddingBackwardArgs& args, const Positions& list) {
  constexpr int64_t columns = kGatherThreads * N;
  launch(
      "embedding_backward", gather_rows_kernel<T, N>,
      Grid{(args.rows + kRowsPerGather - 1) / kRowsPerGather, (args.width + columns - 1) / columns},
      kGatherThreads, 0, static_cast<const T*>(args.g), list.start, list.sorted,
      static_cast<T*>(args.dtable), args.rows, args.width);
}

}  // namespace

void embedding_backward(const EmbeddingBackwardArgs& args) {
  CHECK_AS(Fault::usage, args.count <= 0x7fffffff, "embedding_backward: ", args.count,
           " ids are too many for cuda (2147483647)");
  if (args.rows == 0) return;
  dispatch_cuda("embedding_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Storage memory = scratch((args.rows + 1 + 3 * args.count) * int64_t{sizeof(int)});
    int* const start = reinterpret_cast<int*>(memory.data());
    int* const lists = start + args.rows + 1;
    const Positions list{start, lists, lists + args.count, lists + 2 * args.count};
    const int64_t each = bucket_rows(args.rows);
    launch("embedding_backward", sort_positions_kernel, Grid{(args.rows + each - 1) / each},
           kBucketThreads, 0, args.ids, args.count, args.rows, each, list);
    constexpr int N = 16 / sizeof(T);
    if (aligned(args.g, args.dtable) && args.width % N == 0) return gather<T, N>(args, list);
    gather<T, 1>(args, list);
  });
}

}  // namespace mullion::cuda
