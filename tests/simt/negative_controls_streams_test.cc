// Memory and streams of several devices, streams that are not ordered, and a captured stream that
// another thread uses.
#include <thread>

#include "tensor/simt/device_model.h"
#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

__global__ void copy_kernel(const float* x, float* y) { y[threadIdx.x] = x[threadIdx.x]; }

// Two devices, a stream on each and a second one on the first.
class SimtStreamControl : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    device_model().devices = 2;
    for (cudaStream_t* stream : {&first_, &second_})
      cudaStreamCreateWithFlags(stream, cudaStreamNonBlocking);
    cudaSetDevice(1);
    cudaStreamCreateWithFlags(&elsewhere_, cudaStreamNonBlocking);
    cudaSetDevice(0);
    cudaEventCreateWithFlags(&event_, cudaEventDisableTiming);
  }
  void TearDown() override {
    cudaSetDevice(0);
    cudaEventDestroy(event_);
    for (cudaStream_t stream : {first_, second_, elsewhere_}) cudaStreamDestroy(stream);
    cudaGetLastError();
  }
  static void copy(cudaStream_t stream, const float* x, float* y) {
    launch("copy", copy_kernel, 1, 1, 1, 4, 0, stream, x, y);
  }
  // `after` will run after what `before` has been asked for.
  void order(cudaStream_t before, cudaStream_t after) {
    cudaEventRecord(event_, before);
    cudaStreamWaitEvent(after, event_);
  }

  const LateStreams late_{GetParam()};
  const DeviceModelGuard guard_;
  cudaStream_t first_ = nullptr, second_ = nullptr, elsewhere_ = nullptr;
  cudaEvent_t event_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(LateStreams, SimtStreamControl, testing::Bool());

TEST_P(SimtStreamControl, MemoryOfAnotherDevice) {
  DeviceArray<float> x(4, 0), y(4, 0);
  cudaSetDevice(1);
  EXPECT_EQ(finding_of([&] { copy(elsewhere_, x.data(), y.data()); }),
            "copy on device 1 uses an allocation of 16 bytes of device 0");
  EXPECT_TRUE(contains(finding_of([&] { cudaMemsetAsync(x.data(), 0, 16, elsewhere_); }),
                       "cudaMemsetAsync on device 1 uses"));
  // A copy may; one that names the devices names the right ones.
  DeviceArray<float> z(4, 0);
  const auto peer_copy = [&](int target, int source) {
    return finding_of([&] {
      cudaMemcpyPeerAsync(z.data(), target, x.data(), source, 16, elsewhere_);
      cudaDeviceSynchronize();
    });
  };
  EXPECT_EQ(peer_copy(1, 0), "");
  EXPECT_EQ(peer_copy(0, 0),
            "cudaMemcpyPeerAsync: the target is said to be of device 0 and is of device 1");
  EXPECT_EQ(peer_copy(1, 1),
            "cudaMemcpyPeerAsync: the source is said to be of device 1 and is of device 0");
}

TEST_P(SimtStreamControl, AnotherStreamWithoutAnEvent) {
  DeviceArray<float> x(4, 0), y(4, 0), z(4, 0);
  // Both read x, and write elsewhere.
  EXPECT_EQ(finding_of([&] {
              copy(first_, x.data(), y.data());
              copy(second_, x.data(), z.data());
            }),
            "");
  EXPECT_EQ(finding_of([&] {
              copy(first_, x.data(), y.data());
              copy(second_, y.data(), z.data());
            }),
            "copy uses an allocation of 16 bytes, which copy uses on another stream, with no event "
            "between");
  EXPECT_TRUE(contains(finding_of([&] {
                         copy(first_, x.data(), y.data());
                         cudaMemsetAsync(x.data(), 0, 16, second_);
                       }),
                       "cudaMemsetAsync uses an allocation of 16 bytes, which copy uses on"));
  EXPECT_EQ(finding_of([&] {
              copy(first_, x.data(), y.data());
              order(first_, second_);
              copy(second_, y.data(), z.data());
              order(second_, first_);
              copy(first_, z.data(), y.data());
            }),
            "");
  // The event was recorded too early.
  EXPECT_TRUE(contains(finding_of([&] {
                         order(first_, second_);
                         copy(first_, x.data(), y.data());
                         copy(second_, y.data(), z.data());
                       }),
                       "with no event between"));
  // The host has waited.
  EXPECT_EQ(finding_of([&] {
              copy(first_, x.data(), y.data());
              cudaStreamSynchronize(first_);
              copy(second_, y.data(), z.data());
            }),
            "");
}

TEST_P(SimtStreamControl, AllocatedOnAnotherStream) {
  float* x = nullptr;
  DeviceArray<float> y(4, 0);
  cudaMallocAsync(&x, 16, first_);
  EXPECT_TRUE(contains(finding_of([&] { copy(second_, y.data(), x); }),
                       "which cudaMallocAsync uses on another stream"));
  order(first_, second_);
  EXPECT_EQ(finding_of([&] { copy(second_, y.data(), x); }), "");
  order(second_, first_);
  cudaFreeAsync(x, first_);
}

TEST_P(SimtStreamControl, FreedWhileAnotherStreamUsesIt) {
  float* x = nullptr;
  DeviceArray<float> y(4, 0);
  cudaMallocAsync(&x, 16, first_);
  cudaMemsetAsync(x, 0, 16, first_);
  order(first_, second_);
  copy(second_, x, y.data());
  EXPECT_TRUE(contains(finding_of([&] { cudaFreeAsync(x, first_); }),
                       "cudaFreeAsync of an allocation of 16 bytes, which copy uses on another"));
  order(second_, first_);
  EXPECT_EQ(finding_of([&] { cudaFreeAsync(x, first_); }), "");
}

TEST_P(SimtStreamControl, UsedAfterItsFreeWasQueued) {
  float* x = nullptr;
  DeviceArray<float> y(4, 0);
  cudaMallocAsync(&x, 16, first_);
  cudaMemsetAsync(x, 0, 16, first_);
  cudaFreeAsync(x, first_);
  const auto finding = finding_of([&] { copy(first_, x, y.data()); });
  const bool late = GetParam();  // else it has been freed by now
  EXPECT_TRUE(
      contains(finding, late ? "which was freed by cudaFreeAsync" : "in no live allocation"))
      << finding;
}

// A copy between devices reads on the target's stream what the source's may free.
TEST_P(SimtStreamControl, CopyBetweenDevicesThatTheSourceDoesNotWaitFor) {
  float *x = nullptr, *there = nullptr;
  cudaMallocAsync(&x, 16, first_);
  cudaMemsetAsync(x, 0, 16, first_);
  cudaStreamSynchronize(first_);
  cudaSetDevice(1);
  cudaMallocAsync(&there, 16, elsewhere_);
  cudaMemcpyPeerAsync(there, 1, x, 0, 16, elsewhere_);
  EXPECT_TRUE(contains(finding_of([&] { cudaFreeAsync(x, first_); }),
                       "which cudaMemcpyPeerAsync uses on another stream"));
  cudaStreamSynchronize(elsewhere_);
  EXPECT_EQ(finding_of([&] { cudaFreeAsync(x, first_); }), "");
  cudaFreeAsync(there, elsewhere_);
}

// --- a captured stream and other threads ---

template <typename F>
void in_another_thread(F f) {
  std::thread(f).join();
}

class SimtCaptureControl : public testing::TestWithParam<cudaStreamCaptureMode> {
 protected:
  void SetUp() override {
    cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking);
    cudaStreamCreateWithFlags(&other_, cudaStreamNonBlocking);
    ASSERT_EQ(cudaStreamBeginCapture(stream_, GetParam()), cudaSuccess);
  }
  void TearDown() override {
    end();
    cudaGetLastError();
    cudaStreamDestroy(stream_);
    cudaStreamDestroy(other_);
  }
  cudaError_t end() {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    if (graph) cudaGraphDestroy(graph);
    return error;
  }
  bool relaxed() const { return GetParam() == cudaStreamCaptureModeRelaxed; }
  cudaStream_t stream_ = nullptr, other_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Modes, SimtCaptureControl,
                         testing::Values(cudaStreamCaptureModeGlobal,
                                         cudaStreamCaptureModeThreadLocal,
                                         cudaStreamCaptureModeRelaxed));

// Its work would be repeated by every replay of this thread's graph.
TEST_P(SimtCaptureControl, AnotherThreadQueues) {
  float* x = nullptr;
  in_another_thread([&] {
    std::string finding;
    try {
      launch("copy", copy_kernel, 1, 1, 1, 4, 0, stream_, x, x);
    } catch (const Finding& found) {
      finding = found.what();
    }
    EXPECT_EQ(finding, relaxed() ? "" : "copy: on a stream that another thread is capturing");
  });
  EXPECT_EQ(end(), cudaSuccess);
}

TEST_P(SimtCaptureControl, AnotherThreadEndsIt) {
  in_another_thread(
      [&] { EXPECT_EQ(end(), relaxed() ? cudaSuccess : cudaErrorStreamCaptureWrongThread); });
  EXPECT_EQ(end(), relaxed() ? cudaErrorInvalidValue : cudaSuccess);
}

TEST_P(SimtCaptureControl, AnotherThreadWaitsForIt) {
  in_another_thread(
      [&] { EXPECT_EQ(cudaStreamSynchronize(stream_), cudaErrorStreamCaptureUnsupported); });
  EXPECT_EQ(end(), cudaErrorStreamCaptureInvalidated);
}

// Calls that might wait for it: a capture of mode global forbids them to all threads.
TEST_P(SimtCaptureControl, AnotherThreadAllocates) {
  const bool forbidden = GetParam() == cudaStreamCaptureModeGlobal;
  in_another_thread([&] {
    float* x = nullptr;
    EXPECT_EQ(cudaMalloc(&x, 16), forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other_),
              forbidden ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
    if (!forbidden) cudaFree(x);
  });
  EXPECT_EQ(end(), forbidden ? cudaErrorStreamCaptureInvalidated : cudaSuccess);
}

// Its own thread may not either, but in mode relaxed.
TEST_P(SimtCaptureControl, ItsThreadAllocates) {
  float* x = nullptr;
  EXPECT_EQ(cudaMalloc(&x, 16), relaxed() ? cudaSuccess : cudaErrorStreamCaptureUnsupported);
  EXPECT_EQ(end(), relaxed() ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
  if (x) cudaFree(x);
}

// The legacy stream waits for all blocking streams, and so for one that is captured.
TEST(SimtCaptureControlOfABlockingStream, TheLegacyStreamIsUsed) {
  cudaStream_t stream = nullptr;
  cudaStreamCreate(&stream);
  DeviceArray<float> x(4, 0);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  in_another_thread([&] {
    EXPECT_EQ(cudaMemsetAsync(x.data(), 0, 16, nullptr), cudaErrorStreamCaptureImplicit);
  });
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
  cudaGetLastError();
  cudaStreamDestroy(stream);
}

}  // namespace
}  // namespace mullion::simt
