// Which step comes next by the shapes it has: eager, rehearsal, capture, replay.
#include "autograd/step_graph.h"

#include <chrono>
#include <utility>

#include "tensor/backend.h"
#include "tensor/step_memory.h"

namespace mullion {
namespace {

using Clock = std::chrono::steady_clock;
// The host is the slower one where the device has less than this part of the step left to do when
// all is queued. Not nearer to a half: a queue takes some thousand launches, then the host waits.
constexpr double kLeftToDo = 0.1;

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

}  // namespace

// What must be equal for a recording to do.
struct StepGraph::Shapes {
  int64_t passes;
  std::vector<std::pair<Shape, DType>> inputs;

  Shapes(int64_t passes_, const Inputs& batch) : passes(passes_) {
    for (const Tensor& x : batch) inputs.emplace_back(x.shape(), x.dtype());
  }
  bool operator==(const Shapes&) const = default;
};

struct StepGraph::Recording {
  std::vector<Inputs> inputs;  // of each pass, at their places
  std::shared_ptr<StepMemory> memory;
  std::vector<Tensor> losses, gradients;  // as the last replay left them
  void* graph = nullptr;
  Device device;

  ~Recording() {
    if (graph) backend(device.type).destroy_graph(graph, device.index);
  }
};

StepGraph::StepGraph(GraphUse use, Device device, std::vector<Tensor> parameters, Pass pass)
    : use_(device.type == DeviceType::cpu ? GraphUse::off : use),
      device_(device),
      parameters_(std::move(parameters)),
      pass_(std::move(pass)),
      release_(device, [this] {
        if (recording_ && !in_use_) forget();
      }) {}

StepGraph::~StepGraph() = default;

std::string StepGraph::take_message() { return std::exchange(message_, {}); }

void StepGraph::forget() {
  recording_.reset();
  stage_ = Stage::first;
}

// Whether the step is of the known shapes, which the first step of all gives.
bool StepGraph::shapes_are_known(int64_t passes, const Inputs& batch) {
  auto shapes = std::make_unique<Shapes>(passes, batch);
  if (known_ && *known_ == *shapes) {
    other_ = nullptr;
    return true;
  }
  if (known_ && !(other_ && *other_ == *shapes)) {
    other_ = std::move(shapes);
    return false;
  }
  forget();
  known_ = std::move(shapes);
  other_ = nullptr;
  return true;
}

std::vector<Tensor> StepGraph::run(int64_t passes, const std::function<Inputs()>& next) {
  std::vector<Inputs> batches;  // those that have come
  bool known = use_ != GraphUse::off;
  for (const Tensor& p : parameters_) known = known && !grad(p).defined();
  if (known) {
    batches.push_back(next());
    known = shapes_are_known(passes, batches[0]);
  }
  if (known && stage_ != Stage::first && stage_ != Stage::never) {
    in_use_ = true;
    const std::shared_ptr<void> after(nullptr, [this](void*) { in_use_ = false; });
    if (put_in_place(passes, next, batches)) {
      if (stage_ == Stage::replays) return replay();
      return stage_ == Stage::recording ? record(batches) : rehearse(batches);
    }
  } else if (known && stage_ == Stage::first) {
    stage_ = Stage::rehearsal;
  }
  std::vector<Tensor> losses;
  for (size_t i = 0; static_cast<int64_t>(i) < passes; ++i) {
    const Inputs batch = i < batches.size() ? std::move(batches[i]) : next();
    losses.push_back(detached(pass_(batch)));
  }
  return losses;
}

// Copies all batches to the places of the recording's inputs and answers true, or stops at the
// first that does not fit, which is then the last in the list.
bool StepGraph::put_in_place(int64_t passes, const std::function<Inputs()>& next,
                             std::vector<Inputs>& batches) {
  if (!recording_) recording_ = std::make_unique<Recording>();
  recording_->device = device_;
  std::vector<Inputs>& places = recording_->inputs;
  for (size_t i = 0; static_cast<int64_t>(i) < passes; ++i) {
    if (i > 0) batches.push_back(next());
    Inputs& batch = batches.back();
    if (Shapes(passes, batch) != *known_) return false;
    if (places.size() == i) {
      places.emplace_back();
      for (const Tensor& x : batch)
        places[i].push_back(Tensor::empty(x.shape(), x.dtype(), device_));
    }
    for (size_t k = 0; k < batch.size(); ++k)
      raw::copy_into(raw::contiguous(batch[k]), places[i][k]);
    batch = places[i];
  }
  return true;
}

std::vector<Tensor> StepGraph::pass_over(const std::vector<Inputs>& batches) {
  std::vector<Tensor> losses;
  for (const Inputs& batch : batches) losses.push_back(detached(pass_(batch)));
  return losses;
}

// Where there is no recording after all; what may have been computed of the step is made again.
std::vector<Tensor> StepGraph::run_eagerly(const std::vector<Inputs>& batches, const Error& why) {
  message_ = concat("steps are not recorded as a graph: ", why.what());
  for (const Tensor& p : parameters_) clear_grad(p);
  forget();
  stage_ = Stage::never;
  return pass_over(batches);
}

std::vector<Tensor> StepGraph::rehearse(const std::vector<Inputs>& batches) {
  recording_->memory = std::make_shared<StepMemory>(device_);
  synchronize(device_);
  const auto begin = Clock::now();
  std::vector<Tensor> losses;
  try {
    const StepMemory::Scope scope(recording_->memory, StepMemory::Phase::rehearsal);
    losses = pass_over(batches);
  } catch (const Error& error) {
    if (error.fault() != Fault::memory) throw;
    return run_eagerly(batches, error);
  }
  const double queued = seconds_since(begin);
  synchronize(device_);
  const double whole = seconds_since(begin);
  stage_ = Stage::recording;
  if (use_ == GraphUse::automatic && whole - queued > kLeftToDo * whole) {
    forget();
    stage_ = Stage::never;
  }
  return losses;
}

std::vector<Tensor> StepGraph::record(const std::vector<Inputs>& batches) {
  const DeviceBackend& its = backend(device_.type);
  Recording& r = *recording_;
  try {
    // What the rehearsal used lies in pieces that the block cannot be made of.
    synchronize(device_);
    release_cached_memory(device_);
    r.memory->lay_out();
    {
      const StepMemory::Scope scope(r.memory, StepMemory::Phase::recording);
      its.begin_recording(device_.index);
      r.losses = pass_over(batches);
      for (const Tensor& p : parameters_) r.gradients.push_back(grad(p));
    }
    r.graph = its.end_recording(device_.index);
    r.memory->check_recording();
  } catch (const Error& error) {
    its.abandon_recording(device_.index);
    return run_eagerly(batches, error);
  }
  stage_ = Stage::replays;
  message_ = concat("a step is recorded as a graph of ", its.nodes_of(r.graph),
                    " launches, copies and fills, in ", r.memory->bytes() >> 20,
                    " MiB; from now on it is queued by one call");
  return replay();
}

std::vector<Tensor> StepGraph::replay() {
  backend(device_.type).replay(recording_->graph, device_.index);
  for (size_t i = 0; i < parameters_.size(); ++i)
    if (recording_->gradients[i].defined())
      parameters_[i].grad_data()->grad = recording_->gradients[i];
  ++replays_;
  return recording_->losses;
}

}  // namespace mullion
