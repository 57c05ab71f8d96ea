// Captured streams: a graph repeats what was recorded, with the arguments of the recording, and
// what a capture forbids is an error of the call that does it.
#include <functional>

#include "tensor/simt/fault_plan.h"
#include "tensor/simt/host_memory.h"
#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

__global__ void add_kernel(float* x, float alpha, int n) {
  const auto i = static_cast<int>(threadIdx.x);
  if (i < n) x[i] += alpha;
}
void add(float* x, float alpha, int n) {
  cuda::launch("add", add_kernel, cuda::Grid{1}, 32, 0, x, alpha, n);
}

class SimtGraphs : public testing::Test {
 protected:
  // The graph of what f queues; null and `error` where the capture did not end well.
  cudaGraphExec_t captured(const std::function<void()>& f) {
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    f();
    cudaGraph_t graph = nullptr;
    error_ = cudaStreamEndCapture(stream_, &graph);
    cudaGetLastError();
    if (!graph) return nullptr;
    EXPECT_EQ(cudaGraphGetNodes(graph, nullptr, &nodes_), cudaSuccess);
    cudaGraphExec_t exec = nullptr;
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
    cudaGraphDestroy(graph);
    return exec;
  }
  void replay(cudaGraphExec_t exec) { EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess); }

  const cudaStream_t stream_ = cuda::current_stream();
  cudaError_t error_ = cudaSuccess;
  size_t nodes_ = 0;
};

TEST_F(SimtGraphs, NothingRunsUntilTheLaunch) {
  for (const bool late : {false, true}) {
    const LateStreams streams(late);
    DeviceArray<float> x(4, 0), y(4, 0);
    const LaunchCounts counts;
    float alpha = 2;
    const cudaGraphExec_t exec = captured([&] {
      cudaMemsetAsync(y.data(), 0, 4 * sizeof(float), stream_);
      add(x.data(), alpha, 4);
      cudaMemcpyAsync(y.data(), x.data(), 4 * sizeof(float), cudaMemcpyDeviceToDevice, stream_);
    });
    EXPECT_EQ(nodes_, 3u);
    alpha = 100;  // the graph has the value it was recorded with
    EXPECT_EQ(counts.of("add"), 0);
    EXPECT_EQ(x.values(), std::vector<float>(4, 0));
    replay(exec);
    replay(exec);
    EXPECT_EQ(y.values(), std::vector<float>(4, 4));
    EXPECT_EQ(counts.of("add"), 2);
    EXPECT_EQ(counts.of("graph"), 2);
    cudaGraphExecDestroy(exec);
  }
}

TEST_F(SimtGraphs, AReplayReadsMemoryAnew) {
  float* pinned = nullptr;
  cudaMallocHost(&pinned, sizeof(float));
  DeviceArray<float> x(1, 0);
  const cudaGraphExec_t exec = captured([&] {
    cudaMemcpyAsync(x.data(), pinned, sizeof(float), cudaMemcpyHostToDevice, stream_);
    add(x.data(), 1, 1);
  });
  for (const float value : {3.0f, 8.0f}) {
    *pinned = value;
    replay(exec);
    EXPECT_EQ(x.values()[0], value + 1);
  }
  cudaGraphExecDestroy(exec);
  cudaFreeHost(pinned);
}

// What was freed after the recording is not there in a replay.
TEST_F(SimtGraphs, AReplayFindsFreedMemory) {
  float* x = nullptr;
  cudaMalloc(&x, 4 * sizeof(float));
  const cudaGraphExec_t exec = captured([&] { add(x, 1, 4); });
  cudaFree(x);
  EXPECT_NE(finding_of([&] { replay(exec); }).find("in no live allocation"), std::string::npos);
  cudaGraphExecDestroy(exec);
}

TEST_F(SimtGraphs, WhatACaptureForbidsIsRefused) {
  cudaEvent_t event = nullptr;
  cudaEventCreate(&event);
  cudaEventRecord(event, stream_);
  float pageable = 0, *pinned = nullptr, *fresh = nullptr;
  cudaMallocHost(&pinned, sizeof(float));
  DeviceArray<float> x(1, 0);
  const std::pair<const char*, std::function<cudaError_t()>> calls[] = {
      {"cudaStreamSynchronize", [&] { return cudaStreamSynchronize(stream_); }},
      {"cudaDeviceSynchronize", [&] { return cudaDeviceSynchronize(); }},
      {"cudaStreamQuery", [&] { return cudaStreamQuery(stream_); }},
      {"cudaEventQuery", [&] { return cudaEventQuery(event); }},
      {"cudaEventSynchronize", [&] { return cudaEventSynchronize(event); }},
      {"cudaMalloc", [&] { return cudaMalloc(&fresh, 16); }},
      {"cudaFree", [&] { return cudaFree(x.data()); }},
      {"cudaMallocAsync", [&] { return cudaMallocAsync(&fresh, 16, stream_); }},
      {"cudaFreeAsync", [&] { return cudaFreeAsync(x.data(), stream_); }},
      {"cudaMallocHost", [&] { return cudaMallocHost(&fresh, 16); }},
      {"cudaFreeHost", [&] { return cudaFreeHost(pinned); }},
      {"cudaMemcpy", [&] { return cudaMemcpy(x.data(), pinned, 4, cudaMemcpyHostToDevice); }},
      {"cudaMemset", [&] { return cudaMemset(x.data(), 0, 4); }},
      {"a copy from pageable memory",
       [&] { return cudaMemcpyAsync(x.data(), &pageable, 4, cudaMemcpyHostToDevice, stream_); }},
      {"a copy to pageable memory",
       [&] { return cudaMemcpyAsync(&pageable, x.data(), 4, cudaMemcpyDeviceToHost, stream_); }},
  };
  for (const auto& [name, call] : calls) {
    SCOPED_TRACE(name);
    const cudaGraphExec_t exec = captured([&] {
      add(x.data(), 1, 1);
      EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
      // The capture is lost, and what follows is told so.
      EXPECT_THROW(add(x.data(), 1, 1), Error);
    });
    EXPECT_EQ(error_, cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(exec, nullptr);
    EXPECT_EQ(x.values()[0], 0);
  }
  EXPECT_NE(finding_of([&] {
              captured([&] { cudaEventRecord(event, stream_); });
            }).find("cudaEventRecord: within a capture"),
            std::string::npos);
  cudaGraph_t graph = nullptr;
  cudaStreamEndCapture(stream_, &graph);  // which the finding left open
  cudaGraphDestroy(graph);
  cudaEventDestroy(event);
  cudaFreeHost(pinned);
}

TEST_F(SimtGraphs, OtherStreamsAreNotCaptured) {
  cudaStream_t other = nullptr;
  cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking);
  DeviceArray<float> x(1, 0);
  const cudaGraphExec_t exec =
      captured([&] { cudaMemsetAsync(x.data(), 0xff, sizeof(float), other); });
  EXPECT_EQ(nodes_, 0u);
  EXPECT_NE(x.values()[0], x.values()[0]);
  cudaGraphExecDestroy(exec);
  cudaStreamDestroy(other);
}

}  // namespace
}  // namespace mullion::simt
