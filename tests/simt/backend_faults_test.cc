// What the CUDA backend says when the machine is not as it should be: no device, an old driver, no
// memory left, a kernel that fails.
#include "tensor/backend.h"
#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/tensor.h"
#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

// The message and kind of the Error that f throws.
struct Failure {
  std::string text;
  Fault fault = Fault::other;
};
template <typename F>
Failure failure_of(F f) {
  try {
    f();
  } catch (const Error& error) {
    return {error.what(), error.fault()};
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

class SimtBackendFaults : public testing::Test {
 protected:
  void TearDown() override {
    device_model() = {};
    clear_faults();
    cudaGetLastError();
  }
  // Of a device that no other test has opened.
  static Failure opening(int index) {
    return failure_of([&] { kernels(Device{DeviceType::cuda, index}); });
  }
};

TEST_F(SimtBackendFaults, NoDevice) {
  device_model().devices = 0;
  EXPECT_EQ(device_count(DeviceType::cuda), 0);
  EXPECT_EQ(opening(7).text, "no CUDA device: the machine shows none");
  device_model().driver = 0;
  const Failure failure = opening(7);
  EXPECT_EQ(failure.text, "no CUDA device: no NVIDIA driver is installed");
  EXPECT_EQ(failure.fault, Fault::usage);
}

TEST_F(SimtBackendFaults, DriverOrDeviceTooOld) {
  device_model().driver = 12020;
  EXPECT_EQ(opening(7).text, "no CUDA device: the driver is for CUDA 12.2, this build needs 13.0");
  device_model() = {};
  device_model().capabilities = {{7, 0}};
  device_model().devices = 8;
  EXPECT_EQ(device_count(DeviceType::cuda), 0);
  EXPECT_NE(
      opening(7).text.find("has compute capability 7.0; this build has machine code for sm_80"),
      std::string::npos);
}

TEST_F(SimtBackendFaults, IndexThatDoesNotExist) {
  EXPECT_EQ(opening(7).text, "no CUDA device: there is 1, index 7 does not exist");
  EXPECT_EQ(opening(-1).fault, Fault::usage);
}

TEST_F(SimtBackendFaults, OutOfMemoryNamesTheSizes) {
  release_cached_memory(Device{DeviceType::cuda});  // or the second attempt finds what it frees
  const size_t capacity = device_capacity();
  const Tensor x = Tensor::empty({1000}, DType::f32, Device{DeviceType::cuda});
  synchronize(Device{DeviceType::cuda});  // what is freed and queued would be found again
  set_device_capacity(device_bytes_in_use() + 1000);
  const Failure failure =
      failure_of([] { Tensor::empty({3000}, DType::f32, Device{DeviceType::cuda}); });
  set_device_capacity(capacity);
  EXPECT_EQ(failure.fault, Fault::memory);
  EXPECT_NE(failure.text.find("12000 bytes"), std::string::npos) << failure.text;
  // What was there before is unharmed, and so is the device.
  EXPECT_EQ(Tensor::empty({3000}, DType::f32, Device{DeviceType::cuda}).numel(), 3000);
}

__global__ void fine_kernel(float* y) { y[0] = 1; }

TEST_F(SimtBackendFaults, AFailingKernelIsNamed) {
  DeviceArray<float> y(1, 0);
  plan_fault("launch", 1, cudaErrorLaunchOutOfResources);
  Failure failure =
      failure_of([&] { cuda::launch("fine", fine_kernel, cuda::Grid{1}, 1, 0, y.data()); });
  EXPECT_EQ(failure.fault, Fault::memory);
  EXPECT_NE(failure.text.find("kernel fine could not be launched"), std::string::npos)
      << failure.text;
  // A fault inside a kernel comes up later, at a call that waits.
  cuda::launch("fine", fine_kernel, cuda::Grid{1}, 1, 0, y.data());
  plan_fault("cudaStreamSynchronize", 1, cudaErrorIllegalAddress);
  failure = failure_of([] { synchronize(Device{DeviceType::cuda}); });
  EXPECT_EQ(failure.fault, Fault::memory);
  EXPECT_NE(failure.text.find("illegal memory access"), std::string::npos) << failure.text;
  EXPECT_NE(failure.text.find("launched last: fine"), std::string::npos) << failure.text;
}

}  // namespace
}  // namespace mullion::simt
