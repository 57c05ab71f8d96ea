// When training steps are recorded, what a replay asks of the host, and what happens where a step
// cannot be recorded.
#include <cmath>

#include "optim/optimizer.h"
#include "tensor/simt/device_memory.h"
#include "tensor/simt/fault_plan.h"
#include "tests/simt/small_llama.h"

namespace mullion::test {
namespace {

class RecordedSteps : public OnDevice<> {};

// A replay is one call of the host; it sends the batch, and the update nothing: gradients do not
// move.
TEST_F(RecordedSteps, AReplaySendsItsBatchAlone) {
  SmallLlama small;
  const auto parameters = trainable_parameters(small.model);
  const auto optimizer = make_adamw({{parameters, 1, 0}});
  StepGraph graph(GraphUse::on, kCuda, small.trained,
                  [&](const StepGraph::Inputs& in) { return small.pass(in); });
  for (int step = 0; step < 5; ++step) {
    const simt::LaunchCounts counts;
    const auto losses = graph.run(1, [&] { return StepGraph::Inputs{small.ids, small.ids}; });
    optimizer->step(1e-3, grad_sum_squares(parameters, losses), 1);
    clear_grads(parameters);
    synchronize(kCuda);
    EXPECT_EQ(counts.of("graph"), step >= 2 ? 1 : 0);
    if (step < 3) continue;
    EXPECT_EQ(counts.of("copy from the host"), 2) << "ids and targets";
  }
  EXPECT_EQ(graph.replays(), 3);
}

// By itself a step is recorded where the device has nothing left to do when all of it is queued.
TEST_F(RecordedSteps, StepsAreRecordedWhereTheHostIsTheSlowerOne) {
  for (const bool late : {false, true}) {
    const simt::LateStreams streams(late);
    const SmallLlama small;
    StepGraph graph(GraphUse::automatic, kCuda, small.trained,
                    [&](const StepGraph::Inputs& in) { return small.pass(in); });
    for (int step = 0; step < 4; ++step) {
      graph.run(1, [&] { return StepGraph::Inputs{small.ids, small.ids}; });
      for (const Tensor& p : small.trained) clear_grad(p);
    }
    EXPECT_EQ(graph.replays(), late ? 0 : 2);
  }
}

// Where memory ends within an evaluation, the recording's goes; the next steps are right again.
TEST_F(RecordedSteps, ARecordingGivesItsMemoryUp) {
  std::vector<std::vector<float>> gradients;
  for (const GraphUse use : {GraphUse::off, GraphUse::on}) {
    const SmallLlama small;
    StepGraph graph(use, kCuda, small.trained,
                    [&](const StepGraph::Inputs& in) { return small.pass(in); });
    for (int step = 0; step < 8; ++step) {
      graph.run(1, [&] { return StepGraph::Inputs{small.ids, small.ids}; });
      const auto g = grad(small.trained[1]).to_vector<float>();
      if (gradients.size() < 8)
        gradients.push_back(g);
      else
        EXPECT_EQ(g, gradients[static_cast<size_t>(step)]) << "step " << step;
      for (const Tensor& p : small.trained) clear_grad(p);
      if (step != 3 || use == GraphUse::off) continue;
      EXPECT_EQ(graph.replays(), 2);
      synchronize(kCuda);
      release_cached_memory(kCuda);
      const size_t capacity = simt::device_capacity();
      simt::set_device_capacity(simt::device_bytes_in_use() + 1000);
      const Tensor fresh = Tensor::full({5000}, 1, DType::f32, kCuda);
      EXPECT_EQ(fresh.to_vector<float>(), std::vector<float>(5000, 1));
      simt::set_device_capacity(capacity);
    }
    EXPECT_EQ(graph.replays(), use == GraphUse::on ? 2 + 2 : 0) << "it was recorded anew";
  }
}

// And where there is none for a recording, steps are computed without one.
TEST_F(RecordedSteps, WithoutMemoryForARecordingStepsAreQueuedAsEver) {
  const SmallLlama small;
  StepGraph graph(GraphUse::on, kCuda, small.trained,
                  [&](const StepGraph::Inputs& in) { return small.pass(in); });
  std::vector<float> gradient;
  for (int step = 0; step < 4; ++step) {
    // The first storage of the third run is the recording's block; it is asked for three times.
    for (int i = 0; step == 2 && i < 3; ++i)
      simt::plan_fault("cudaMallocAsync", 1, cudaErrorMemoryAllocation);
    graph.run(1, [&] { return StepGraph::Inputs{small.ids, small.ids}; });
    EXPECT_EQ(simt::clear_faults(), step == 2 ? 3 : 0);
    EXPECT_EQ(
        graph.take_message().find("steps are not recorded as a graph: out of memory on cuda") == 0,
        step == 2);
    const auto g = grad(small.trained[1]).to_vector<float>();
    EXPECT_TRUE(step == 0 || g == gradient);
    gradient = g;
    for (const Tensor& p : small.trained) clear_grad(p);
  }
  EXPECT_EQ(graph.replays(), 0);
}

// A call that fails while the step is recorded is told by its name, and the step is computed.
TEST_F(RecordedSteps, ACallThatFailsWhileRecordingIsNamed) {
  const SmallLlama small;
  for (const char* call :
       {"cudaStreamBeginCapture", "launch", "cudaStreamEndCapture", "cudaGraphInstantiate"}) {
    SCOPED_TRACE(call);
    StepGraph graph(GraphUse::on, kCuda, small.trained,
                    [&](const StepGraph::Inputs& in) { return small.pass(in); });
    for (int step = 0; step < 4; ++step) {
      if (step == 2) simt::plan_fault(call, 5 * (call[0] == 'l') + 1, cudaErrorNotSupported);
      const auto losses = graph.run(1, [&] { return StepGraph::Inputs{small.ids, small.ids}; });
      EXPECT_TRUE(std::isfinite(losses[0].item()));
      const std::string message = graph.take_message();
      if (step == 2) {
        EXPECT_EQ(simt::clear_faults(), 1);
        EXPECT_NE(message.find(call[0] == 'l' ? "could not be launched" : call), std::string::npos)
            << message;
      }
      for (const Tensor& p : small.trained) clear_grad(p);
    }
    EXPECT_EQ(graph.replays(), 0);
  }
}

}  // namespace
}  // namespace mullion::test
