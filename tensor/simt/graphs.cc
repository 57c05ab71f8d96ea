// The captures under way, what they forbid, and the graphs that came of them.
#include "tensor/simt/graphs.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tensor/simt/engine.h"
#include "tensor/simt/fault_plan.h"

struct Node {
  mullion::simt::Uses uses;
  mullion::simt::Work work;
};
using Recorded = std::vector<Node>;
struct SimtGraph {
  std::shared_ptr<Recorded> work;
};
struct SimtGraphExec {
  std::shared_ptr<const Recorded> work;
};

namespace mullion::simt {
namespace {

struct Capture {
  cudaStreamCaptureMode mode;
  std::thread::id thread;
  bool broken = false;
  Recorded work;

  bool is_mine() const { return thread == std::this_thread::get_id(); }
  bool is_relaxed() const { return mode == cudaStreamCaptureModeRelaxed; }
};
std::map<cudaStream_t, Capture> captures;

// Calls that might wait for the captured stream. A capture of mode global forbids them to all
// threads, one of mode thread-local to its own.
constexpr std::string_view kUnsafe[] = {"cudaStreamSynchronize",
                                        "cudaStreamQuery",
                                        "cudaEventSynchronize",
                                        "cudaEventQuery",
                                        "cudaMalloc",
                                        "cudaFree",
                                        "cudaMallocHost",
                                        "cudaHostAlloc",
                                        "cudaFreeHost",
                                        "cudaMemcpy",
                                        "cudaMemset"};
// What a device could record, or do beside a capture of its own thread; here nobody does that.
constexpr std::string_view kNotEmulated[] = {"cudaMallocAsync",        "cudaFreeAsync",
                                             "cudaMemPoolTrimTo",      "cudaStreamDestroy",
                                             "cudaStreamBeginCapture", "cudaGraphLaunch"};
constexpr std::string_view kRecorded[] = {"launch", "cudaMemcpyAsync", "cudaMemcpyPeerAsync",
                                          "cudaMemsetAsync"};

template <size_t N>
bool is_one_of(const std::string_view (&names)[N], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

cudaError_t broken(Capture& capture, cudaError_t error = cudaErrorStreamCaptureUnsupported) {
  capture.broken = true;
  return error;
}

// Of a call that names the captured stream itself.
cudaError_t refusal_on(Capture& capture, std::string_view call) {
  if (is_one_of(kRecorded, call))
    return capture.broken ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
  if (is_one_of(kUnsafe, call) || is_one_of(kNotEmulated, call)) return broken(capture);
  return cudaSuccess;
}

// Of a call that does not.
cudaError_t refusal_beside(cudaStream_t captured, Capture& capture, std::string_view call,
                           const cudaStream_t* stream) {
  if (call == "cudaDeviceSynchronize" && device_of(captured) == current_device())
    return broken(capture);
  const bool everywhere = capture.mode == cudaStreamCaptureModeGlobal;
  if (is_one_of(kUnsafe, call) && (everywhere || (capture.is_mine() && !capture.is_relaxed())))
    return broken(capture);
  if (is_one_of(kNotEmulated, call) && capture.is_mine()) return broken(capture);
  const bool legacy = (stream && !*stream) || call == "cudaMemcpy" || call == "cudaMemset";
  if (legacy && is_blocking(captured) && device_of(captured) == current_device())
    return broken(capture, cudaErrorStreamCaptureImplicit);
  return cudaSuccess;
}

}  // namespace

bool is_capturing(cudaStream_t stream) { return captures.count(stream) > 0; }

bool capture_work(cudaStream_t stream, const char* what, const Uses& uses, const Work& work) {
  const auto found = captures.find(stream);
  if (found == captures.end()) return false;
  Capture& capture = found->second;
  if (!capture.is_mine() && !capture.is_relaxed())
    report(concat(what, ": on a stream that another thread is capturing"));
  capture.work.push_back({uses, work});
  return true;
}

cudaError_t break_capture(cudaStream_t stream) { return broken(captures.at(stream)); }

cudaError_t refusal(const char* call, const cudaStream_t* stream) {
  if (const cudaError_t planned = planned_fault(call)) return planned;
  for (auto& [captured, capture] : captures) {
    const bool is_itself = stream && *stream == captured;
    const cudaError_t error =
        is_itself ? refusal_on(capture, call) : refusal_beside(captured, capture, call, stream);
    if (error) return error;
  }
  return cudaSuccess;
}

}  // namespace mullion::simt

using namespace mullion::simt;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  if (const cudaError_t error = refusal("cudaStreamBeginCapture", &stream)) return error;
  if (!stream) return cudaErrorStreamCaptureUnsupported;  // the legacy stream
  captures[stream] = {mode, std::this_thread::get_id(), false, {}};
  return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = nullptr;
  const auto found = captures.find(stream);
  if (found == captures.end()) return cudaErrorInvalidValue;
  if (!found->second.is_mine() && !found->second.is_relaxed())
    return cudaErrorStreamCaptureWrongThread;
  const cudaError_t planned = planned_fault("cudaStreamEndCapture");
  const Capture ended = std::move(found->second);
  captures.erase(found);
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
  if (const cudaError_t error = refusal("cudaGraphLaunch", &stream)) return error;
  Uses uses;
  for (const Node& node : *exec->work) uses.insert(uses.end(), node.uses.begin(), node.uses.end());
  enqueue(stream, "cudaGraphLaunch", uses, [work = exec->work] {
    count_run("graph");
    for (const Node& node : *work) node.work();
  });
  return cudaSuccess;
}
