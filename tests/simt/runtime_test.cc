// The emulated runtime: memory, transfers, streams, faults on order.
#include "tensor/simt/device_memory.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/host_memory.h"
#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

__global__ void increment_kernel(float* x, int n) {
  const auto i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) x[i] += 1;
}

TEST(SimtRuntime, FreshMemoryIsPoison) {
  float* x = nullptr;
  ASSERT_EQ(cudaMalloc(&x, 4 * sizeof(float)), cudaSuccess);
  float copy[4];
  cudaMemcpy(copy, x, sizeof copy, cudaMemcpyDeviceToHost);
  for (const float value : copy) EXPECT_NE(value, value);
  cudaFree(x);
}

TEST(SimtRuntime, MemoryIsCountedAndEnds) {
  const size_t capacity = device_capacity(), in_use = device_bytes_in_use();
  set_device_capacity(in_use + 1000);
  float *x = nullptr, *y = nullptr;
  EXPECT_EQ(cudaMalloc(&x, 600), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&y, 600), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  size_t free_bytes = 0, total = 0;
  cudaMemGetInfo(&free_bytes, &total);
  EXPECT_EQ(free_bytes, 400u);
  cudaFree(x);
  EXPECT_EQ(device_bytes_in_use(), in_use);
  set_device_capacity(capacity);
}

TEST(SimtRuntime, TransfersCheckTheirSides) {
  DeviceArray<float> x(8, 0);
  float host[9] = {};
  const auto finding = [&](void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
    return finding_of([&] { cudaMemcpy(to, from, bytes, kind); });
  };
  EXPECT_EQ(finding(x.data(), host, 32, cudaMemcpyDefault), "");
  EXPECT_TRUE(contains(finding(x.data(), host, 36, cudaMemcpyHostToDevice),
                       "cudaMemcpy: target: 36 bytes at an address that is byte 0 of an "
                       "allocation of 32"));
  EXPECT_TRUE(
      contains(finding(host, x.data() + 1, 32, cudaMemcpyDeviceToHost), "source: 32 bytes"));
  EXPECT_TRUE(contains(finding(host, host + 4, 4, cudaMemcpyDeviceToHost), "not in device memory"));
  EXPECT_TRUE(contains(finding(x.data(), x.data(), 4, cudaMemcpyHostToDevice),
                       "the source is said to be host memory"));
}

TEST(SimtRuntime, LateStreamsShowAMissingSynchronisation) {
  const LateStreams late;
  cudaStream_t stream = nullptr, other = nullptr;
  cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  float *pinned = nullptr, *result = nullptr;
  cudaMallocHost(&pinned, sizeof(float));
  cudaMallocHost(&result, sizeof(float));
  DeviceArray<float> x(1, 0);

  // The host writes its buffer again before the copy has passed, and reads before it has come back.
  *pinned = 1;
  cudaMemcpyAsync(x.data(), pinned, sizeof(float), cudaMemcpyHostToDevice, stream);
  *pinned = 2;
  cudaMemcpyAsync(result, x.data(), sizeof(float), cudaMemcpyDeviceToHost, stream);
  EXPECT_NE(*result, *result);
  cudaStreamSynchronize(stream);
  EXPECT_EQ(*result, 2);

  // Pageable memory is copied before the call returns.
  float pageable = 3;
  cudaMemcpyAsync(x.data(), &pageable, sizeof(float), cudaMemcpyHostToDevice, stream);
  pageable = 4;
  cudaMemcpyAsync(&pageable, x.data(), sizeof(float), cudaMemcpyDeviceToHost, stream);
  EXPECT_EQ(pageable, 3);

  // Another stream does not wait, unless for an event.
  *pinned = 5;
  cudaMemcpyAsync(x.data(), pinned, sizeof(float), cudaMemcpyHostToDevice, stream);
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, stream);
  const auto finding = finding_of(
      [&] { cudaMemcpyAsync(result, x.data(), sizeof(float), cudaMemcpyDeviceToHost, other); });
  EXPECT_TRUE(contains(finding, "with no event between")) << finding;
  cudaStreamWaitEvent(other, event);
  cudaMemcpyAsync(result, x.data(), sizeof(float), cudaMemcpyDeviceToHost, other);
  cudaStreamSynchronize(other);
  EXPECT_EQ(*result, 5);
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);

  cudaEventDestroy(event);
  cudaFreeHost(pinned);
  cudaFreeHost(result);
  cudaStreamDestroy(stream);
  cudaStreamDestroy(other);
}

TEST(SimtRuntimeDeathTest, HostCodeMayNotTouchDeviceMemory) {
  DeviceArray<float> x(4, 0);
  const LateStreams late;
  EXPECT_EQ(x.values(), std::vector<float>(4, 0.0f));
  EXPECT_DEATH(x.data()[1] = 1, "the host touches device memory: .*byte 4 of an allocation of 16");
}

TEST(SimtRuntime, FreeingInAStreamWaitsForWhatWasQueuedBefore) {
  const LateStreams late;
  float* x = nullptr;
  const cudaStream_t stream = cuda::current_stream();
  cudaMallocAsync(&x, 64 * sizeof(float), stream);
  cudaMemsetAsync(x, 0, 64 * sizeof(float), stream);
  cuda::launch("increment", increment_kernel, cuda::Grid{1}, 64, 0, x, 64);
  cudaFreeAsync(x, stream);
  EXPECT_EQ(finding_of([&] { cudaStreamSynchronize(stream); }), "");
  cudaMallocAsync(&x, 64 * sizeof(float), stream);
  cudaFreeAsync(x, stream);
  const auto finding =
      finding_of([&] { cuda::launch("increment", increment_kernel, cuda::Grid{1}, 64, 0, x, 64); });
  EXPECT_TRUE(contains(finding, "which was freed by cudaFreeAsync")) << finding;
}

TEST(SimtRuntime, FaultsOnOrder) {
  float* x = nullptr;
  plan_fault("cudaMalloc", 2, cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&x, 4), cudaSuccess);
  cudaFree(x);
  EXPECT_EQ(cudaMalloc(&x, 4), cudaErrorMemoryAllocation);
  EXPECT_EQ(cudaMalloc(&x, 4), cudaSuccess);
  plan_fault("cudaFree", 1, cudaErrorIllegalAddress);
  EXPECT_EQ(cudaFree(x), cudaErrorIllegalAddress);
  cudaFree(x);
  plan_fault("launch", 1, cudaErrorLaunchOutOfResources);
  DeviceArray<float> y(1, 0);
  EXPECT_THROW(cuda::launch("increment", increment_kernel, cuda::Grid{1}, 1, 0, y.data(), 1),
               Error);
  EXPECT_EQ(y.values()[0], 0);
  EXPECT_EQ(clear_faults(), 3);
  cudaGetLastError();
}

}  // namespace
}  // namespace mullion::simt
