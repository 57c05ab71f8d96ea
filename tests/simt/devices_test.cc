// Several devices and several threads in one process.
#include <thread>

#include "tensor/backend.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/fault_plan.h"
#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

constexpr int64_t kBytes = 4096;

__global__ void increment_kernel(unsigned char* x) { ++x[threadIdx.x]; }

class SimtDevices : public testing::Test {
 protected:
  SimtDevices() { device_model().devices = 2; }
  ~SimtDevices() override {
    cudaGetLastError();
    clear_faults();
    kernels(Device{DeviceType::cuda, 0});
    device_model().devices = before_;
  }
  static const DeviceBackend& cuda() { return backend(DeviceType::cuda); }
  static std::vector<unsigned char> values(const void* block, int device) {
    std::vector<unsigned char> result(kBytes);
    cuda().download(result.data(), block, kBytes, device);
    return result;
  }
  static std::vector<unsigned char> all(unsigned char value) {
    return std::vector<unsigned char>(kBytes, value);
  }

 private:
  int before_ = device_model().devices;
};

// The device that is read goes on as late as it may, and as early.
TEST_F(SimtDevices, ACopyHoldsBackTheSource) {
  const LateStreams late;
  for (const auto& [source, target] : {std::pair{0, 1}, {1, 0}}) {
    void* const x = cuda().allocate(kBytes, source);
    void* const y = cuda().allocate(kBytes, target);
    cuda().set_bytes(x, 1, kBytes, source);
    cuda().copy(y, target, x, source, kBytes);
    cuda().set_bytes(x, 2, kBytes, source);
    cuda().synchronize(source);
    EXPECT_EQ(values(y, target), all(1));
    cuda().copy(y, target, x, source, kBytes);
    cuda().free(x, source);
    cuda().synchronize(source);
    EXPECT_EQ(values(y, target), all(2));
    cuda().free(y, target);
  }
}

TEST_F(SimtDevices, WhatIsDoneForAnotherDeviceLeavesTheCurrentOne) {
  void* const x = cuda().allocate(kBytes, 0);
  void* const graph_memory = cuda().allocate(kBytes, 1);
  kernels(Device{DeviceType::cuda, 1});
  const auto expect_second = [](const char* after) {
    int device = -1;
    cudaGetDevice(&device);
    EXPECT_EQ(device, 1) << after;
    EXPECT_EQ(cuda::current_device(), 1) << after;
  };
  std::vector<unsigned char> bytes(kBytes, 7);
  cuda().set_bytes(x, 1, kBytes, 0);
  expect_second("set_bytes");
  cuda().upload(x, bytes.data(), kBytes, 0);
  expect_second("upload");
  cuda().download(bytes.data(), x, kBytes, 0);
  expect_second("download");
  cuda().copy(x, 0, graph_memory, 1, kBytes);
  expect_second("copy");
  cuda().synchronize(0);
  expect_second("synchronize");
  cuda().trim(0);
  expect_second("trim");
  cuda().free(cuda().allocate(kBytes, 0), 0);
  expect_second("allocate and free");
  cuda().free(x, 0);
  expect_second("free");
  cuda::launch("increment", increment_kernel, cuda::Grid{1}, 32, 0,
               static_cast<unsigned char*>(graph_memory));
  cuda().synchronize(1);
  cuda().free(graph_memory, 1);
}

TEST_F(SimtDevices, OtherThreadsWorkWhileOneRecords) {
  auto* const x = static_cast<unsigned char*>(cuda().allocate(kBytes, 0));
  cuda().set_bytes(x, 1, kBytes, 0);
  cuda().begin_recording(0);
  cuda::launch("increment", increment_kernel, cuda::Grid{1}, kBytes / 4, 0, x);
  std::vector<unsigned char> others;
  std::thread([&] {
    auto* const y = static_cast<unsigned char*>(cuda().allocate(kBytes, 0));
    cuda().set_bytes(y, 10, kBytes, 0);
    for (int64_t i = 0; i < 4; ++i)
      cuda::launch("increment", increment_kernel, cuda::Grid{1}, kBytes / 4, 0, y + kBytes / 4 * i);
    others = values(y, 0);
    cuda().free(y, 0);
  }).join();
  void* const graph = cuda().end_recording(0);
  EXPECT_EQ(cuda().nodes_of(graph), 1);
  EXPECT_EQ(others, all(11));
  EXPECT_EQ(values(x, 0), all(1));
  cuda().replay(graph, 0);
  EXPECT_EQ(values(x, 0)[0], 2);
  EXPECT_EQ(values(x, 0)[kBytes - 1], 1);
  cuda().destroy_graph(graph, 0);
  cuda().free(x, 0);
}

TEST_F(SimtDevices, ARecordedStepCopiesFromNoOtherDevice) {
  void* const x = cuda().allocate(kBytes, 0);
  void* const y = cuda().allocate(kBytes, 1);
  cuda().begin_recording(0);
  try {
    cuda().copy(x, 0, y, 1, kBytes);
    ADD_FAILURE() << "it was not refused";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "cuda: a step that is recorded copies from one device to another");
  }
  cuda().abandon_recording(0);
  cuda().free(x, 0);
  cuda().free(y, 1);
}

// A device that no other test has opened.
TEST_F(SimtDevices, KernelsWithoutCodeAreRefusedAtTheOpening) {
  device_model().devices = 6;
  plan_fault("cudaFuncGetAttributes", 1, cudaErrorNoKernelImageForDevice);
  try {
    kernels(Device{DeviceType::cuda, 5});
    ADD_FAILURE() << "it was opened";
  } catch (const Error& error) {
    const std::string text = error.what();
    EXPECT_EQ(error.fault(), Fault::usage);
    EXPECT_NE(text.find("no CUDA device: device 5, emulated device (compute capability 9.0) does "
                        "not take this build's kernels: no kernel image is available"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("machine code for sm_80"), std::string::npos) << text;
  }
  int device = -1;
  cudaGetDevice(&device);
  EXPECT_EQ(device, cuda::current_device());
}

}  // namespace
}  // namespace mullion::simt
