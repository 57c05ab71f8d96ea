// Kernels whose threads meet in shared memory without a barrier, or that touch the bytes of a copy
// under way, each beside one that does it right.
#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::contains;
using simt::DeviceArray;
using simt::finding_of;
using simt::kSchedules;

// The finding, which must be the same kind in every order of threads: `right` finds nothing, and
// `wrong` something with `part` in it.
template <typename Kernel>
void expect_found(Kernel right, Kernel wrong, int threads, const std::string& part) {
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> x(2048, 0), y(2048, 0);
    const auto finding = [&](Kernel kernel) {
      return finding_of(
          [&] { launch("control", kernel, Grid{2}, threads, 1 << 10, x.data(), y.data()); });
    };
    EXPECT_EQ(finding(right), "");
    EXPECT_TRUE(contains(finding(wrong), part)) << finding(wrong);
  }
}

template <bool kWithBarrier>
__global__ void reverse_kernel(const float* x, float* y) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (kWithBarrier) __syncthreads();
  y[threadIdx.x] = tile[63 - threadIdx.x];
}
TEST(SimtNegativeControl, MissingBarrier) {
  expect_found(reverse_kernel<true>, reverse_kernel<false>, 64,
               "of the shared variable tile, which");
}

// The second barrier of a loop: without it a thread overwrites what another has not read yet.
template <bool kWithBarrier>
__global__ void shift_kernel(const float* x, float* y) {
  SHARED(float, tile, [64]);
  float sum = 0;
  for (int round = 0; round < 3; ++round) {
    tile[threadIdx.x] = x[round * 64 + threadIdx.x];
    __syncthreads();
    sum += tile[(threadIdx.x + 1) % 64];
    if (kWithBarrier) __syncthreads();
  }
  y[threadIdx.x] = sum;
}
TEST(SimtNegativeControl, MissingBarrierBeforeTheNextRound) {
  expect_found(shift_kernel<true>, shift_kernel<false>, 64, "with no barrier between");
}

// Results are right in every order of whole threads: all write the same number.
template <bool kOneWrites>
__global__ void same_value_kernel(const float* x, float* y) {
  DYNAMIC_SHARED(float, total);
  if (!kOneWrites || threadIdx.x == 0) total[0] = x[0];
  __syncthreads();
  y[threadIdx.x] = total[0];
}
TEST(SimtNegativeControl, TwoThreadsWriteTheSame) {
  expect_found(same_value_kernel<true>, same_value_kernel<false>, 64,
               "race: it writes byte 0 of the 1024 bytes of dynamic shared memory, which thread");
}

// Neighbours share words, but no byte.
template <bool kOwnBytes>
__global__ void bytes_kernel(const float* x, float* y) {
  SHARED(unsigned char, marks, [64]);
  marks[kOwnBytes ? threadIdx.x : threadIdx.x / 2] = x[threadIdx.x] > 0;
  __syncthreads();
  y[threadIdx.x] = marks[63 - threadIdx.x];
}
TEST(SimtNegativeControl, SharedBytes) {
  expect_found(bytes_kernel<true>, bytes_kernel<false>, 64, "race: it writes byte ");
}

template <bool kWithBarrier>
__global__ void warp_swap_kernel(const float* x, float* y) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (kWithBarrier) __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 1];
}
TEST(SimtNegativeControl, MissingBarrierOfAWarp) {
  expect_found(warp_swap_kernel<true>, warp_swap_kernel<false>, 64, "race: it ");
}

// The barrier is of a warp, and the neighbour another warp's.
template <bool kOfTheBlock>
__global__ void warp_barrier_kernel(const float* x, float* y) {
  SHARED(float, tile, [64]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (kOfTheBlock)
    __syncthreads();
  else
    __syncwarp();
  y[threadIdx.x] = tile[threadIdx.x ^ 32];
}
TEST(SimtNegativeControl, BarrierOfAWarpBetweenTwoWarps) {
  expect_found(warp_barrier_kernel<true>, warp_barrier_kernel<false>, 64, "race: it ");
}

// Each half of the warp has a barrier of its own, which orders nothing between them.
template <bool kOfAll>
__global__ void half_warp_kernel(const float* x, float* y) {
  SHARED(float, tile, [32]);
  tile[threadIdx.x] = x[threadIdx.x];
  __syncwarp(kOfAll ? kFullMask : threadIdx.x < 16 ? 0xffffu : 0xffff0000u);
  y[threadIdx.x] = tile[threadIdx.x ^ 1] + (threadIdx.x < 16 ? tile[threadIdx.x + 16] : 0);
}
TEST(SimtNegativeControl, BarrierOfHalfAWarp) {
  expect_found(half_warp_kernel<true>, half_warp_kernel<false>, 32, "race: it ");
}

// A shuffle makes lanes wait for each other and orders no memory.
template <bool kWithBarrier>
__global__ void shuffle_kernel(const float* x, float* y) {
  SHARED(float, tile, [32]);
  tile[threadIdx.x] = x[threadIdx.x];
  if (kWithBarrier) __syncwarp();
  const float other = __shfl_xor_sync(kFullMask, x[threadIdx.x], 1);
  y[threadIdx.x] = tile[threadIdx.x ^ 1] + other;
}
TEST(SimtNegativeControl, ShuffleInsteadOfABarrier) {
  expect_found(shuffle_kernel<true>, shuffle_kernel<false>, 32, "race: it ");
}

template <bool kWithBarrier>
__global__ void matrix_kernel(const float* x, float* y) {
  DYNAMIC_SHARED(uint4, rows);
  rows[threadIdx.x] = {__float_as_uint(x[threadIdx.x]), 0, 0, 0};
  if (kWithBarrier) __syncwarp();
  uint32_t r[4];
  ldmatrix_x4(r, rows + threadIdx.x);
  y[threadIdx.x] = __uint_as_float(r[0]);
}
TEST(SimtNegativeControl, MatrixLoadedBeforeItsRowsAreThere) {
  expect_found(matrix_kernel<true>, matrix_kernel<false>, 32, "race: it reads byte ");
}

// Many readers, then a writer.
template <bool kWithBarrier>
__global__ void overwrite_kernel(const float* x, float* y) {
  SHARED(float, tile, [1]);
  if (threadIdx.x == 0) tile[0] = x[0];
  __syncthreads();
  y[threadIdx.x] = tile[0];
  if (kWithBarrier) __syncthreads();
  if (threadIdx.x == 40) tile[0] = 1;
}
TEST(SimtNegativeControl, OverwrittenWhileOthersRead) {
  expect_found(overwrite_kernel<true>, overwrite_kernel<false>, 64, "race: it ");
}

// Atomics may meet each other, not plain accesses.
template <bool kAllAtomic>
__global__ void count_kernel(const float* x, float* y) {
  SHARED(int, count, [1]);
  if (threadIdx.x == 0) count[0] = 0;
  __syncthreads();
  if (kAllAtomic || threadIdx.x != 7)
    atomicAdd(&count[0], static_cast<int>(x[0]) + 1);
  else
    count[0] += 1;
  __syncthreads();
  y[threadIdx.x] = static_cast<float>(count[0]);
}
TEST(SimtNegativeControl, PlainUpdateAmongAtomics) {
  expect_found(count_kernel<true>, count_kernel<false>, 64, "of the shared variable count");
}

// --- cp.async ---

template <int kPending>
__global__ void two_groups_kernel(const float* x, float* y) {
  SHARED(float4, tile, [2][32]);
  const auto* in = reinterpret_cast<const float4*>(x);
  for (int stage = 0; stage < 2; ++stage) {
    cp_async_16(&tile[stage][threadIdx.x], in + stage * 32 + threadIdx.x);
    cp_async_commit();
  }
  cp_async_wait<kPending>();
  __syncthreads();
  y[threadIdx.x] = tile[0][threadIdx.x].x + tile[1][threadIdx.x].x;
}
TEST(SimtNegativeControl, WaitsForTheWrongCopyGroup) {
  expect_found(two_groups_kernel<0>, two_groups_kernel<1>, 32, "while a cp.async of thread ");
}

// Each thread waits for its own copies; a barrier has to follow for the others'.
template <bool kWithBarrier>
__global__ void copy_of_another_kernel(const float* x, float* y) {
  SHARED(float4, tile, [32]);
  cp_async_16(&tile[threadIdx.x], reinterpret_cast<const float4*>(x) + threadIdx.x);
  cp_async_commit();
  cp_async_wait<0>();
  if (kWithBarrier) __syncthreads();
  y[threadIdx.x] = tile[threadIdx.x ^ 1].x;
}
TEST(SimtNegativeControl, ReadsTheCopyOfAnotherThread) {
  expect_found(copy_of_another_kernel<true>, copy_of_another_kernel<false>, 32,
               "of the shared variable tile");
}

template <bool kAfterTheWait>
__global__ void write_into_copy_kernel(const float* x, float* y) {
  SHARED(float4, tile, [32]);
  cp_async_16(&tile[threadIdx.x], reinterpret_cast<const float4*>(x) + threadIdx.x);
  cp_async_commit();
  if (kAfterTheWait) cp_async_wait<0>();
  tile[threadIdx.x].y = 1;
  cp_async_wait<0>();
  y[threadIdx.x] = tile[threadIdx.x].y;
}
TEST(SimtNegativeControl, WritesIntoACopyUnderWay) {
  expect_found(write_into_copy_kernel<true>, write_into_copy_kernel<false>, 32, "it writes byte ");
}

// The second copy lands where the first is still read.
template <bool kWithBarrier>
__global__ void copy_over_kernel(const float* x, float* y) {
  SHARED(float4, tile, [64]);
  const auto* in = reinterpret_cast<const float4*>(x);
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    cp_async_16(&tile[threadIdx.x], in + round * 64 + threadIdx.x);
    cp_async_commit();
    cp_async_wait<0>();
    __syncthreads();
    sum += tile[63 - threadIdx.x].x;
    if (kWithBarrier) __syncthreads();
  }
  y[threadIdx.x] = sum;
}
TEST(SimtNegativeControl, CopyIntoWhatOthersRead) {
  expect_found(copy_over_kernel<true>, copy_over_kernel<false>, 64, "with no barrier between");
}

template <bool kCommits>
__global__ void committed_kernel(const float* x, float*) {
  SHARED(float4, tile, [32]);
  cp_async_16(&tile[threadIdx.x], reinterpret_cast<const float4*>(x) + threadIdx.x);
  if (kCommits) cp_async_commit();
}
TEST(SimtNegativeControl, CopyWithoutACommitAtTheEnd) {
  expect_found(committed_kernel<true>, committed_kernel<false>, 32, "that was never committed");
}

// The wait waits for nothing: the copy belongs to no group yet.
template <bool kCommits>
__global__ void uncommitted_kernel(const float* x, float* y) {
  SHARED(float4, tile, [32]);
  cp_async_16(&tile[threadIdx.x], reinterpret_cast<const float4*>(x) + threadIdx.x);
  if (kCommits) cp_async_commit();
  cp_async_wait<0>();
  y[threadIdx.x] = tile[threadIdx.x].x;
}
TEST(SimtNegativeControl, ReadsACopyWithoutACommit) {
  expect_found(uncommitted_kernel<true>, uncommitted_kernel<false>, 32,
               "while a cp.async of thread ");
}

}  // namespace
}  // namespace mullion::cuda
