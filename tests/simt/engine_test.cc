// The emulator runs a grid as a device would: every thread once, barriers and warps in step, in any
// order of threads.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "tensor/cuda/runtime/launch.h"
#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::DeviceArray;
using simt::kSchedules;
using simt::Schedule;

__global__ void number_kernel(int* out) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  out[block * blockDim.x + threadIdx.x] += static_cast<int>(block * 1000 + threadIdx.x);
}

TEST(SimtEngine, EveryThreadOfEveryBlockRunsOnce) {
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> out(24 * 70, 0);
    launch("number", number_kernel, Grid{2, 3, 4}, 70, 0, out.data());
    const auto values = out.values();
    for (int i = 0; i < 24 * 70; ++i)
      ASSERT_EQ(values[static_cast<size_t>(i)], i / 70 * 1000 + i % 70);
  }
}

// Each round every thread reads what its neighbour wrote in the round before.
__global__ void relay_kernel(int* out, int rounds) {
  SHARED(int, box, [2][96]);
  const auto i = threadIdx.x;
  box[0][i] = static_cast<int>(i);
  for (int round = 0; round < rounds; ++round) {
    __syncthreads();
    box[(round + 1) % 2][i] = box[round % 2][(i + 1) % blockDim.x] + 1;
  }
  out[blockIdx.x * blockDim.x + i] = box[rounds % 2][i];
}

TEST(SimtEngine, BarriersOrderSharedMemory) {
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> out(2 * 96);
    launch("relay", relay_kernel, Grid{2}, 96, 0, out.data(), 7);
    const auto values = out.values();
    for (int i = 0; i < 2 * 96; ++i)
      ASSERT_EQ(values[static_cast<size_t>(i)], (i % 96 + 7) % 96 + 7);
  }
}

// Every operation of a warp, against what its documentation says lane by lane.
__global__ void warp_kernel(int* out) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int* mine = out + threadIdx.x * 12;
  mine[0] = __shfl_sync(kFullMask, lane * 10, (lane + 5) % 32);
  mine[1] = __shfl_up_sync(kFullMask, lane, 3);
  mine[2] = __shfl_down_sync(kFullMask, lane, 3, 8);
  mine[3] = __shfl_xor_sync(kFullMask, lane, 9);
  mine[4] = static_cast<int>(__ballot_sync(kFullMask, lane % 3 == 0));
  mine[5] = __any_sync(kFullMask, lane == 31) * 2 + __all_sync(kFullMask, lane < 31);
  mine[6] = __reduce_add_sync(kFullMask, lane);
  mine[7] = __reduce_max_sync(kFullMask, -lane);
  mine[8] = static_cast<int>(warp_sum(static_cast<float>(lane)));
  mine[9] = static_cast<int>(warp_max(static_cast<float>(-lane)));
  mine[10] = -1;  // halves of the warp apart
  if (lane < 16)
    mine[10] = __shfl_sync(0x0000ffffu, lane, 15);
  else
    mine[10] = __shfl_sync(0xffff0000u, lane, 16);
  mine[11] = __syncthreads_count(lane % 2) * 4 + __syncthreads_or(lane == 7) * 2 +
             __syncthreads_and(lane == 7);
}

TEST(SimtEngine, OperationsOfAWarpAreThoseOfTheDocumentation) {
  int multiples = 0;
  for (int lane = 0; lane < 32; lane += 3) multiples |= 1 << lane;
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> out(64 * 12);
    launch("warp", warp_kernel, Grid{1}, 64, 0, out.data());
    const auto values = out.values();
    for (int thread = 0; thread < 64; ++thread) {
      const int lane = thread % 32;
      const int expected[12] = {(lane + 5) % 32 * 10,
                                lane < 3 ? lane : lane - 3,
                                lane % 8 + 3 < 8 ? lane + 3 : lane,
                                lane ^ 9,
                                multiples,
                                2,
                                496,
                                0,
                                496,
                                0,
                                lane < 16 ? 15 : 16,
                                32 * 4 + 2};
      for (int i = 0; i < 12; ++i)
        ASSERT_EQ(values[static_cast<size_t>(thread * 12 + i)], expected[i])
            << "operation " << i << ", thread " << thread;
    }
  }
}

__global__ void order_kernel(int* next, int* place) {
  place[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(next, 1);
}

TEST(SimtEngine, SchedulesAreWhatTheyAreCalled) {
  const auto places = [](Schedule order) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<int> next(1, 0), place(4 * 64);
    launch("order", order_kernel, Grid{4}, 64, 0, next.data(), place.data());
    return place.values();
  };
  std::vector<int> forward(4 * 64);
  std::iota(forward.begin(), forward.end(), 0);
  EXPECT_EQ(places({simt::Order::forward}), forward);
  EXPECT_EQ(places({simt::Order::backward}), std::vector<int>(forward.rbegin(), forward.rend()));
  const auto random = places({simt::Order::random, 3});
  EXPECT_NE(random, forward);
  EXPECT_EQ(random, places({simt::Order::random, 3}));
  EXPECT_NE(random, places({simt::Order::random, 4}));
}

// 40 blocks of 1024 threads: stacks, lanes and warps are used again.
__global__ void many_kernel(float* sums) {
  SHARED(float, partial, [32]);
  DYNAMIC_SHARED(float, values);
  values[threadIdx.x] = static_cast<float>(threadIdx.x % 7);
  __syncthreads();
  const float sum = warp_sum(values[blockDim.x - 1 - threadIdx.x]);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    const float total = warp_sum(partial[threadIdx.x]);
    if (threadIdx.x == 0) sums[blockIdx.x] = total;
  }
}

TEST(SimtEngine, LargeBlocksAndManyOfThem) {
  float expected = 0;
  for (int i = 0; i < 1024; ++i) expected += static_cast<float>(i % 7);
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> sums(40);
    launch("many", many_kernel, Grid{40}, 1024, 1024 * sizeof(float), sums.data());
    for (const float sum : sums.values()) ASSERT_EQ(sum, expected);
  }
}

__global__ void copy_kernel(const float4* x, float4* y) {
  SHARED(float4, tile, [2][32]);
  const auto i = threadIdx.x;
  cp_async_16(&tile[0][i], x + i);
  cp_async_commit();
  cp_async_16(&tile[1][i], x, false);
  cp_async_commit();
  cp_async_wait<1>();
  __syncthreads();
  y[i] = tile[0][31 - i];
  cp_async_wait<0>();
  __syncthreads();
  y[32 + i] = tile[1][31 - i];
}

TEST(SimtEngine, AsynchronousCopiesArriveByGroups) {
  std::vector<float4> x(32);
  for (size_t i = 0; i < 32; ++i) x[i] = {static_cast<float>(i), 1, 2, 3};
  for (const Schedule& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float4> from(x), to(64);
    launch("copy", copy_kernel, Grid{1}, 32, 0, from.data(), to.data());
    const auto y = to.values();
    for (size_t i = 0; i < 32; ++i) {
      ASSERT_EQ(y[i].x, static_cast<float>(31 - i));
      ASSERT_EQ(y[32 + i].w, 0);
    }
  }
}

}  // namespace
}  // namespace mullion::cuda
