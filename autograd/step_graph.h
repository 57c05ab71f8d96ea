// Forward and backward of training steps whose shapes repeat, recorded once as a graph of the
// device and then queued by one call, for a device that is faster than the host that feeds it.
//
//   first step    eager: plans are made, libraries opened
//   rehearsal     eager, and what it asks of memory is noted; whether the host or the device is
//                 the slower one is measured
//   recording     the passes are recorded in memory of their own (tensor/step_memory.h), then
//   queued replays       the batches are copied into the recording's inputs, and it is queued again
//
// A recording repeats its arguments, so a number that changes from step to step is an element of an
// input. What cannot be recorded is computed eagerly: other shapes (twice in a row they take the
// place of the known ones), and shapes of which a recording has failed. Where the device has no
// memory left for something else, the recording is let go and made anew.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "autograd/node.h"
#include "tensor/storage.h"

namespace mullion {

class StepMemory;  // tensor/step_memory.h

// automatic: where the host is the slower one.
enum class GraphUse { off, on, automatic };

class StepGraph {
 public:
  using Inputs = std::vector<Tensor>;
  // Forward and backward over one batch; gives the loss. All that differs between two calls is in
  // its inputs and in the elements of tensors that live on, at the same places; it waits for
  // nothing. Ops look at the integers of a batch where they come on the CPU: replays do not.
  using Pass = std::function<Tensor(const Inputs&)>;
  StepGraph(GraphUse use, Device device, std::vector<Tensor> parameters, Pass pass);
  ~StepGraph();
  StepGraph(const StepGraph&) = delete;
  StepGraph& operator=(const StepGraph&) = delete;

  // Passes over what next() gives, on the CPU or on the device; their gradients add up in the
  // parameters, which have none before. The losses and gradients are good until the next run().
  std::vector<Tensor> run(int64_t passes, const std::function<Inputs()>& next);

  int64_t replays() const { return replays_; }
  // What there is to tell of the last run: that a recording was made, or why there is none. Empty
  // after it has been asked.
  std::string take_message();

 private:
  struct Shapes;
  struct Recording;
  enum class Stage { first, rehearsal, recording, replays, never };

  bool shapes_are_known(int64_t passes, const Inputs& batch);
  bool put_in_place(int64_t passes, const std::function<Inputs()>& next,
                    std::vector<Inputs>& batches);
  std::vector<Tensor> pass_over(const std::vector<Inputs>& batches);
  std::vector<Tensor> rehearse(const std::vector<Inputs>& batches);
  std::vector<Tensor> run_eagerly(const std::vector<Inputs>& batches, const Error& why);
  std::vector<Tensor> record(const std::vector<Inputs>& batches);
  std::vector<Tensor> replay();
  void forget();

  GraphUse use_;
  Device device_;
  std::vector<Tensor> parameters_;
  Pass pass_;
  Stage stage_ = Stage::first;
  std::unique_ptr<Shapes> known_, other_;
  std::unique_ptr<Recording> recording_;
  bool in_use_ = false;  // the recording, which then cannot be let go
  int64_t replays_ = 0;
  std::string message_;
  ReleaseOnShortage release_;
};

}  // namespace mullion
