#include "tests/simt/graphs.h"

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/simt/engine.h"
#include "tests/simt/fault_plan.h"

using Recorded = std::vector<mullion::simt::Work>;
struct SimtGraph {
  std::shared_ptr<Recorded> work;
};
struct SimtGraphExec {
  std::shared_ptr<const Recorded> work;
};

namespace mullion::simt {
namespace {

struct Capture {
  bool active = false, broken = false;
  cudaStream_t stream = nullptr;
  Recorded work;
  std::thread::id thread;  // whose calls it may forbid (cudaStreamCaptureModeThreadLocal)
};
Capture capture;

// A device would record allocations and frees of its pools as well; here nobody does that.
constexpr std::string_view kForbidden[] = {"cudaStreamSynchronize",
                                           "cudaDeviceSynchronize",
                                           "cudaStreamQuery",
                                           "cudaStreamDestroy",
                                           "cudaEventSynchronize",
                                           "cudaEventQuery",
                                           "cudaMalloc",
                                           "cudaFree",
                                           "cudaMallocAsync",
                                           "cudaFreeAsync",
                                           "cudaMallocHost",
                                           "cudaHostAlloc",
                                           "cudaFreeHost",
                                           "cudaMemcpy",
                                           "cudaMemset",
                                           "cudaMemPoolTrimTo",
                                           "cudaStreamBeginCapture",
                                           "cudaGraphLaunch"};
constexpr std::string_view kRecorded[] = {"launch", "cudaMemcpyAsync", "cudaMemcpyPeerAsync",
                                          "cudaMemsetAsync"};

template <size_t N>
bool is_one_of(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

}  // namespace

bool is_capturing(cudaStream_t stream) { return capture.active && capture.stream == stream; }

bool capture_work(cudaStream_t stream, const Work& work) {
  if (!is_capturing(stream)) return false;
  capture.work.push_back(work);
  return true;
}

cudaError_t break_capture() {
  capture.broken = true;
  return cudaErrorStreamCaptureUnsupported;
}

cudaError_t refusal(const char* call) {
  if (const cudaError_t planned = planned_fault(call)) return planned;
  if (!capture.active || capture.thread != std::this_thread::get_id()) return cudaSuccess;
  if (is_one_of(kForbidden, call)) return break_capture();
  if (capture.broken && is_one_of(kRecorded, call)) return cudaErrorStreamCaptureInvalidated;
  return cudaSuccess;
}

}  // namespace mullion::simt

using namespace mullion::simt;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  if (const cudaError_t error = refusal("cudaStreamBeginCapture")) return error;
  if (!stream) return cudaErrorStreamCaptureUnsupported;  // the legacy stream
  capture = {true, false, stream, {}, std::this_thread::get_id()};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  if (!is_capturing(stream)) return cudaErrorInvalidValue;
  const cudaError_t planned = planned_fault("cudaStreamEndCapture");
  const Capture ended = std::exchange(capture, Capture{});
  if (planned) return planned;
  if (ended.broken) return cudaErrorStreamCaptureInvalidated;
  *graph = new SimtGraph{std::make_shared<Recorded>(ended.work)};
  return cudaSuccess;
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  if (const cudaError_t error = refusal("cudaGraphGetNodes")) return error;
  if (nodes) report("cudaGraphGetNodes: the emulator has a count of nodes alone");
  *count = graph->work->size();
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* exec, cudaGraph_t graph, unsigned long long) {
  if (const cudaError_t error = refusal("cudaGraphInstantiate")) return error;
  *exec = new SimtGraphExec{graph->work};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return refusal("cudaGraphDestroy");
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  delete exec;
  return refusal("cudaGraphExecDestroy");
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  if (const cudaError_t error = refusal("cudaGraphLaunch")) return error;
  enqueue(stream, [work = exec->work] {
    count_run("graph");
    for (const Work& node : *work) node();
  });
  return cudaSuccess;
}
