// Kernels with one fault each. A test passes when the emulator finds the fault: by a report, or,
// for what nobody wrote and for blocks that depend on their order, by the results.
#include <cmath>

#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::contains;
using simt::DeviceArray;
using simt::finding_of;
using simt::kSchedules;

// How many of the orders give the right result.
template <typename Launch>
int right_results(const std::vector<float>& expected, Launch launch_into) {
  int right = 0;
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> y(expected.size());
    launch_into(y.data());
    right += y.values() == expected;
  }
  return right;
}

std::vector<float> ramp(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<float>(i) + 0.5f;
  return x;
}

__global__ void sum_next_kernel(const float* x, float* y, int n) {
  const int i = static_cast<int>(threadIdx.x);
  y[i] = x[i] + x[i + 1 < n ? i + 1 : i];
}

TEST(SimtNegativeControl, ReadsOneElementTooFar) {
  DeviceArray<float> x(ramp(64)), y(64);
  EXPECT_EQ(finding_of([&] {
              launch("sum_next", sum_next_kernel, Grid{1}, 64, 0, x.data(), y.data(), 64);
            }),
            "");
  const auto finding = finding_of(
      [&] { launch("sum_next", sum_next_kernel, Grid{1}, 64, 0, x.data(), y.data(), 65); });
  EXPECT_TRUE(contains(finding, "sum_next: block (0, 0, 0), thread 63: illegal access")) << finding;
  EXPECT_TRUE(contains(finding, "0 bytes past the end of an allocation of 256")) << finding;
}

// An allocation whose size is no multiple of 16 bytes has up to 15 bytes after it: NaN for who
// reads.
TEST(SimtNegativeControl, ReadsOneElementTooFarInAnOddAllocation) {
  DeviceArray<float> x(ramp(63)), y(63);
  launch("sum_next", sum_next_kernel, Grid{1}, 63, 0, x.data(), y.data(), 64);
  EXPECT_TRUE(std::isnan(y.values()[62]));
}

__global__ void store_kernel(float* y, int at) { y[at] = 1; }

TEST(SimtNegativeControl, WritesOutsideOfAnAllocation) {
  DeviceArray<float> y(63);
  const auto write = [&](int at) {
    return finding_of([&] { launch("store", store_kernel, Grid{1}, 1, 0, y.data(), at); });
  };
  EXPECT_EQ(write(62), "");
  EXPECT_EQ(write(63), "written past the end of an allocation of 252 bytes, by store");
  EXPECT_EQ(write(-1), "written before the start of an allocation of 252 bytes, by store");
  EXPECT_TRUE(contains(write(64), "illegal access"));
}

TEST(SimtNegativeControl, UsesFreedMemory) {
  float* y = nullptr;
  cudaMalloc(&y, 64);
  cudaFree(y);
  const auto finding = finding_of([&] { launch("store", store_kernel, Grid{1}, 1, 0, y, 0); });
  EXPECT_TRUE(contains(finding, "in no live allocation")) << finding;
  EXPECT_TRUE(contains(finding_of([&] { cudaFree(y); }), "freed an address"));
}

__global__ void null_kernel(float* y) { y[0] = 1; }
TEST(SimtNegativeControl, NullPointer) {
  const auto finding = finding_of([] { launch("null", null_kernel, Grid{1}, 1, 0, nullptr); });
  EXPECT_TRUE(contains(finding, "illegal access to an address that is null")) << finding;
}

struct Pair {
  int64_t n;
  float* y;
};
__global__ void pair_kernel(Pair pair) { pair.y[0] = static_cast<float>(pair.n); }

TEST(SimtNegativeControl, AddressOfTheHostInAnArgument) {
  float on_stack = 0;
  DeviceArray<float> y(1);
  EXPECT_EQ(finding_of([&] { launch("pair", pair_kernel, Grid{1}, 1, 0, Pair{1, y.data()}); }), "");
  const auto finding = finding_of([&] {
    launch("pair", pair_kernel, Grid{1}, 1, 0, Pair{1, &on_stack});
  });
  EXPECT_TRUE(contains(finding, "pair: argument 1, byte 8: ")) << finding;
  EXPECT_TRUE(contains(finding, "is an address of the host's memory")) << finding;
}

__global__ void divergent_kernel(float* y, unsigned limit) {
  if (threadIdx.x < limit) __syncthreads();
  y[threadIdx.x] = 1;
}
__global__ void two_barriers_kernel(float* y) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}

TEST(SimtNegativeControl, DivergentBarrier) {
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> y(64);
    EXPECT_EQ(
        finding_of([&] { launch("divergent", divergent_kernel, Grid{1}, 64, 0, y.data(), 64); }),
        "");
    auto finding =
        finding_of([&] { launch("divergent", divergent_kernel, Grid{2}, 64, 0, y.data(), 40); });
    EXPECT_TRUE(contains(finding, "divergent: block (")) << finding;
    EXPECT_TRUE(contains(finding, "not reached by threads 40-63, which have ended")) << finding;
    finding = finding_of([&] { launch("two", two_barriers_kernel, Grid{1}, 64, 0, y.data()); });
    EXPECT_TRUE(contains(finding, "threads of the block wait at the barrier at")) << finding;
  }
}

__global__ void missing_lane_kernel(float* y) {
  float x = static_cast<float>(threadIdx.x);
  if (threadIdx.x != 5) x = __shfl_xor_sync(kFullMask, x, 1);
  __syncthreads();
  y[threadIdx.x] = x;
}
__global__ void unnamed_lane_kernel(float* y) {
  y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 3);
}
__global__ void foreign_lane_kernel(float* y) {
  if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0x0000ffffu, 1.0f, 20);
}

TEST(SimtNegativeControl, LanesAndMasksThatDoNotFit) {
  for (const auto& order : kSchedules) {
    const simt::ScheduleGuard guard(order);
    DeviceArray<float> y(32);
    const auto finding = [&](auto kernel) {
      return finding_of([&] { launch("lanes", kernel, Grid{1}, 32, 0, y.data()); });
    };
    EXPECT_TRUE(contains(finding(missing_lane_kernel), "threads 0-4, 6-31 wait for 5"))
        << finding(missing_lane_kernel);
    EXPECT_TRUE(contains(finding(unnamed_lane_kernel), "the mask does not name the thread itself"));
    EXPECT_TRUE(contains(finding(foreign_lane_kernel), "reads lane 20"));
  }
}

__global__ void misaligned_kernel(const float* x, float* y, int offset) {
  const auto v = *reinterpret_cast<const float4*>(x + offset);
  y[0] = v.x + v.w;
}
__global__ void misaligned_intrinsic_kernel(const float* x, float* y, int offset) {
  y[0] = load_vector<float4>(x + offset).y;
}
__global__ void misaligned_copy_kernel(const float* x, float* y, int offset) {
  SHARED(float, tile, [64]);
  cp_async_16(tile + 4, x + offset);
  cp_async_commit();
  cp_async_wait<0>();
  y[0] = tile[4];
}

TEST(SimtNegativeControl, MisalignedVectorLoad) {
  DeviceArray<float> x(ramp(64)), y(1);
  for (const auto kernel :
       {misaligned_kernel, misaligned_intrinsic_kernel, misaligned_copy_kernel}) {
    const auto finding = [&](int offset) {
      return finding_of(
          [&] { launch("misaligned", kernel, Grid{1}, 1, 0, x.data(), y.data(), offset); });
    };
    EXPECT_EQ(finding(4), "");
    EXPECT_TRUE(contains(finding(5),
                         "misaligned address: an address that is byte 20 of an "
                         "allocation of 256 is not a multiple of 16"))
        << finding(5);
  }
}

__global__ void shared_index_kernel(float* y, int at) {
  SHARED(float, tile, [8][4]);
  tile[threadIdx.x][at] = 1;
  y[threadIdx.x] = tile[threadIdx.x][0];
}
__global__ void shared_pointer_kernel(float* y, int at) {
  SHARED(float, tile, [32]);
  float* p = tile;
  p[at] = 1;
  y[0] = p[0];
}
__global__ void dynamic_shared_kernel(float* y, int at) {
  DYNAMIC_SHARED(float, tile);
  tile[at] = 1;
  y[0] = tile[0];
}

TEST(SimtNegativeControl, WritesPastSharedMemory) {
  DeviceArray<float> y(8);
  const auto finding = [&](auto kernel, int threads, int at) {
    return finding_of([&] { launch("shared", kernel, Grid{1}, threads, 128, y.data(), at); });
  };
  EXPECT_EQ(finding(shared_index_kernel, 8, 3), "");
  EXPECT_TRUE(contains(finding(shared_index_kernel, 8, 4), "index 4 is outside of an array"))
      << finding(shared_index_kernel, 8, 4);
  EXPECT_EQ(finding(shared_pointer_kernel, 1, 31), "");
  EXPECT_EQ(
      finding(shared_pointer_kernel, 1, 32),
      "shared: block (0, 0, 0): written past the end of the shared variable tile of 128 bytes");
  EXPECT_EQ(finding(shared_pointer_kernel, 1, -1),
            "shared: block (0, 0, 0): written before the start of the shared variable tile");
  EXPECT_EQ(finding(dynamic_shared_kernel, 1, 31), "");
  EXPECT_TRUE(contains(finding(dynamic_shared_kernel, 1, 32),
                       "illegal access to byte 128 of the 128 bytes of dynamic shared memory"))
      << finding(dynamic_shared_kernel, 1, 32);
  EXPECT_TRUE(contains(finding(dynamic_shared_kernel, 1, -1), "before the start of dynamic"));
}

// A result that depends on the order of blocks.
__global__ void last_block_kernel(float* y) { y[0] = static_cast<float>(blockIdx.x); }

TEST(SimtNegativeControl, ResultDependsOnTheOrderOfBlocks) {
  EXPECT_EQ(
      right_results({7.0f}, [](float* y) { launch("last", last_block_kernel, Grid{8}, 1, 0, y); }),
      1);
}

__global__ void uninitialised_shared_kernel(float* y) {
  SHARED(float, tile, [4]);
  y[0] = tile[1];
}
TEST(SimtNegativeControl, ReadsSharedMemoryThatNobodyWrote) {
  DeviceArray<float> y(1);
  launch("uninitialised", uninitialised_shared_kernel, Grid{1}, 1, 0, y.data());
  EXPECT_TRUE(std::isnan(y.values()[0]));
}

__global__ void overflow_kernel(int* y, int n) { y[0] = n * n; }
TEST(SimtNegativeControl, IndexOverflows) {
  DeviceArray<int> y(1);
  EXPECT_EQ(
      finding_of([&] { launch("overflow", overflow_kernel, Grid{1}, 1, 0, y.data(), 46340); }), "");
  const auto finding =
      finding_of([&] { launch("overflow", overflow_kernel, Grid{1}, 1, 0, y.data(), 46341); });
  EXPECT_TRUE(contains(finding, "a product of signed integers overflows")) << finding;
}

__global__ void deep_kernel(float* y, int n) {
  volatile float stack[1 << 10];
  stack[n % 1024] = 1;
  if (n > 0) deep_kernel(y, n - 1);
  y[0] += stack[n % 1024];
}
TEST(SimtNegativeControl, StackOverflow) {
  DeviceArray<float> y(1, 0);
  EXPECT_EQ(finding_of([&] { launch("deep", deep_kernel, Grid{1}, 1, 0, y.data(), 10); }), "");
  const auto finding =
      finding_of([&] { launch("deep", deep_kernel, Grid{1}, 1, 0, y.data(), 100000); });
  EXPECT_TRUE(contains(finding, "the stack overflows")) << finding;
}

// After a finding the emulator runs on.
TEST(SimtNegativeControl, TheNextLaunchIsWell) {
  DeviceArray<float> y(64);
  EXPECT_NE(
      finding_of([&] { launch("divergent", divergent_kernel, Grid{2}, 64, 0, y.data(), 40); }), "");
  EXPECT_EQ(
      finding_of([&] { launch("divergent", divergent_kernel, Grid{1}, 64, 0, y.data(), 64); }), "");
  EXPECT_EQ(y.values(), std::vector<float>(64, 1.0f));
}

}  // namespace
}  // namespace mullion::cuda
