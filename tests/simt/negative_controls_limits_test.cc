// Launches beyond what a device has, by its compute capability, and on streams of another device.
#include "tensor/simt/device_model.h"
#include "tests/simt/device_array.h"

namespace mullion::cuda {
namespace {

using simt::Capability;
using simt::contains;
using simt::DeviceArray;
using simt::finding_of;

__global__ void dynamic_kernel(float* y) {
  DYNAMIC_SHARED(float, tile);
  tile[threadIdx.x] = 1;
  y[threadIdx.x] = tile[threadIdx.x];
}
__global__ void static_and_dynamic_kernel(float* y) {
  SHARED(float, small, [256]);
  DYNAMIC_SHARED(float, tile);
  small[threadIdx.x] = tile[threadIdx.x] = 1;
  y[threadIdx.x] = small[threadIdx.x];
}

struct SharedCase {
  Capability capability;
  size_t limit;
};
constexpr SharedCase kSharedCases[] = {
    {{8, 0}, 163 << 10}, {{8, 6}, 99 << 10},   {{8, 9}, 99 << 10},
    {{9, 0}, 227 << 10}, {{10, 0}, 227 << 10}, {{12, 0}, 99 << 10},
};

TEST(SimtNegativeControl, MoreSharedMemoryThanTheCapabilityHas) {
  DeviceArray<float> y(32);
  for (const auto& [capability, limit] : kSharedCases) {
    const simt::DeviceModelGuard guard;
    simt::device_model().capabilities = {capability};
    cudaDeviceProp properties;
    cudaGetDeviceProperties(&properties, 0);
    EXPECT_EQ(properties.sharedMemPerBlockOptin, limit);
    // Past cuda::launch(), which asks the device that was opened.
    const auto finding = [&](auto kernel, size_t bytes) {
      return finding_of(
          [&] { simt::launch("shared", kernel, 1, 1, 1, 32, bytes, current_stream(), y.data()); });
    };
    EXPECT_EQ(finding(dynamic_kernel, limit), "");
    EXPECT_EQ(finding(dynamic_kernel, limit + 4),
              concat("shared: ", limit + 4, " bytes of shared memory; a block has ", limit));
    EXPECT_EQ(finding(static_and_dynamic_kernel, limit - 1024), "");
    EXPECT_TRUE(contains(finding(static_and_dynamic_kernel, limit - 1020),
                         concat("a block has 49152 and ", limit, " in all")));
  }
}

TEST(SimtNegativeControl, ALimitOfSharedMemoryOfATest) {
  DeviceArray<float> y(32);
  const simt::DeviceModelGuard guard;
  simt::device_model().shared_per_block = 64 << 10;
  // Past the backend's launch(), which refuses it by itself.
  const auto finding = finding_of([&] {
    simt::launch("shared", dynamic_kernel, 1, 1, 1, 32, 99 << 10, current_stream(), y.data());
  });
  EXPECT_TRUE(contains(finding, "a block has 65536")) << finding;
}

TEST(SimtNegativeControl, MoreThreadsThanABlockHas) {
  DeviceArray<float> y(1056);
  const auto finding = finding_of(
      [&] { launch("threads", dynamic_kernel, Grid{1}, 1056, 1056 * sizeof(float), y.data()); });
  EXPECT_EQ(finding, "threads: 1056 threads a block; 1 to 1024 are possible");
}

// Of the name of a kernel in tensor/simt/kernel_registers.inc, which has its registers.
template <int N>
__global__ void key_gradient_kernel(float* y) {
  y[threadIdx.x] = N;
}
TEST(SimtNegativeControl, MoreThreadsThanTheRegistersAreEnoughFor) {
  DeviceArray<float> y(512);
  const auto finding = [&](int threads) {
    return finding_of(
        [&] { launch("registers", key_gradient_kernel<3>, Grid{1}, threads, 0, y.data()); });
  };
  EXPECT_EQ(finding(256), "");
  EXPECT_EQ(finding(288),
            "registers: 288 threads of key_gradient_kernel, which needs at least 232 registers a "
            "thread; a block has 65536, for 256 threads");
}

// Devices of a machine may differ: the stream's device has the limit. A launch needs its stream's
// device as the thread's current one.
TEST(SimtNegativeControl, LaunchOnAStreamOfAnotherDevice) {
  const simt::DeviceModelGuard guard;
  simt::device_model().devices = 2;
  simt::device_model().capabilities = {{9, 0}, {8, 6}};
  cudaStream_t second = nullptr;
  cudaSetDevice(1);
  DeviceArray<float> y(32);
  cudaStreamCreate(&second);
  const auto run = [&](size_t bytes) {
    return finding_of(
        [&] { simt::launch("dynamic", dynamic_kernel, 1, 1, 1, 32, bytes, second, y.data()); });
  };
  EXPECT_TRUE(contains(run(100 << 10), "a block has 101376"));
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  cudaSetDevice(0);
  EXPECT_EQ(run(128), "");
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidResourceHandle);
  cudaEvent_t of_first = nullptr;
  cudaEventCreate(&of_first);
  EXPECT_EQ(cudaEventRecord(of_first, second), cudaErrorInvalidResourceHandle);
  cudaGetLastError();
  cudaEventDestroy(of_first);
  cudaStreamDestroy(second);
}

}  // namespace
}  // namespace mullion::cuda
