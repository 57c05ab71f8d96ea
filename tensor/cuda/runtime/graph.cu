// Recording what a step queues, as a CUDA graph, and queuing all of it again by one call. A
// recording holds addresses and arguments as they were: what may differ from step to step must lie
// in memory, and the memory must stay (tensor/step_memory.h). The capture is this thread's, and so
// is the stream that is captured: what others queue meanwhile goes to the device's own, as
// otherwise.
#include <memory>
#include <utility>
#include <vector>

#include "tensor/check.h"
#include "tensor/cuda/runtime/graph.h"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

thread_local cudaStream_t recording = nullptr;
thread_local std::vector<std::pair<void*, int>> freed;  // while recording; given back afterwards

// What ends a recording in any case.
void leave_recording() {
  redirect_to(nullptr);
  const cudaStream_t its = std::exchange(recording, nullptr);
  if (its && cudaStreamDestroy(its) != cudaSuccess) cudaGetLastError();
  for (const auto& [block, index] : std::exchange(freed, {})) free(block, index);
}

}  // namespace

struct Graph {
  cudaGraphExec_t exec = nullptr;
  size_t nodes = 0;
};

bool is_recording() { return recording != nullptr; }

void refuse_in_recording(const char* what) {
  CHECK(!recording, "cuda: a step that is recorded ", what);
}

bool free_after_recording(void* block, int index) {
  if (recording) freed.emplace_back(block, index);
  return recording != nullptr;
}

void begin_recording(int index) {
  make_current(index);
  CHECK(!waits_after_launch(),
        "cuda: MULLION_CUDA_SYNC=1 waits within a step, which then cannot be ", "recorded");
  CUDA_CHECK(cudaStreamCreateWithFlags(&recording, cudaStreamNonBlocking));
  const cudaError_t begun = cudaStreamBeginCapture(recording, cudaStreamCaptureModeThreadLocal);
  if (begun != cudaSuccess) leave_recording();
  check(begun, "cudaStreamBeginCapture");
  redirect_to(recording);
}

void* end_recording(int index) {
  make_current(index);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(recording, &graph);
  leave_recording();
  check(ended, "cudaStreamEndCapture");
  auto result = std::make_unique<Graph>();
  cudaError_t status = cudaGraphGetNodes(graph, nullptr, &result->nodes);
  if (status == cudaSuccess) status = cudaGraphInstantiate(&result->exec, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "cudaGraphInstantiate");
  return result.release();
}

void abandon_recording(int index) {
  if (!recording) return;
  make_current(index);
  cudaGraph_t graph = nullptr;
  if (cudaStreamEndCapture(recording, &graph) != cudaSuccess) cudaGetLastError();
  if (graph) cudaGraphDestroy(graph);
  leave_recording();
}

void replay(void* graph, int index) {
  make_current(index);
  CUDA_CHECK(cudaGraphLaunch(static_cast<Graph*>(graph)->exec, current_stream()));
  launched("a recorded step");
}

int64_t nodes_of(void* graph) { return static_cast<int64_t>(static_cast<Graph*>(graph)->nodes); }

// Called by destructors, as free(): what has failed is left.
void destroy_graph(void* graph, int index) {
  const std::unique_ptr<Graph> its(static_cast<Graph*>(graph));
  try {
    synchronize(index);
  } catch (const Error&) {
  }
  if (cudaGraphExecDestroy(its->exec) != cudaSuccess) cudaGetLastError();
}

}  // namespace mullion::cuda
