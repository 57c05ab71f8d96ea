// One update of what is trained, and all that it changes: the parameters, the optimizer's moments,
// a moving average, and the recording of the step (autograd/step_graph.h).
//
//   UpdateStep update(trainable_parameters(model), make_adamw(groups), loss, {.max_norm = 1});
//   while (...) {
//     update.accumulate(4, [&] { return next_batch(); });
//     const UpdateReport report = update.apply(rate);
//   }
//
// A step whose loss or gradients are not finite changes nothing but the counts of its caller.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autograd/step_graph.h"
#include "optim/ema.h"
#include "optim/optimizer.h"
#include "optim/parallel/shard.h"
#include "optim/parallel/step_ranks.h"

namespace mullion {

struct UpdateOptions {
  double max_norm = 0;  // of all gradients together, beyond which they are clipped; 0: never
  GraphUse graph = GraphUse::off;
  std::unique_ptr<Ema> average = nullptr;  // of the same parameters
  // Where set, this process makes a part of a step's passes, and adds its gradients and losses up
  // with those of the other ranks; `graph` is then off, for gradients move.
  std::shared_ptr<StepRanks> ranks = nullptr;
  // Where set, the optimizer and the average are of the parameters that this rank owns.
  std::shared_ptr<OptimizerShard> shard = nullptr;
};

struct UpdateReport {
  double loss = 0, grad_norm = 0;  // before clipping
  bool applied = true;             // false: not finite, so the step was left out
  std::string message = {};        // of StepGraph
};

class UpdateStep {
 public:
  using Inputs = StepGraph::Inputs;
  // The loss of one micro-batch, one f32; what StepGraph asks of a pass holds. The losses of a step
  // are added up, over ranks as well: each is a sum over its targets times 1 / (targets of the
  // whole step). Where that number differs from step to step it is an element of the inputs.
  using Loss = std::function<Tensor(const Inputs&)>;
  UpdateStep(std::vector<NamedParameter> parameters, std::unique_ptr<Optimizer> optimizer,
             Loss loss, UpdateOptions options = {});

  // Forward and backward over what next() gives, once before each apply(). Waits for nothing.
  void accumulate(int64_t micro_batches, const std::function<Inputs()>& next);
  // Clips and updates; then waits for the loss and the norm.
  UpdateReport apply(double lr);

  // Over the steps applied since the last call; none: there were none.
  std::optional<double> take_mean_loss();
  const std::vector<NamedParameter>& parameters() const { return parameters_; }
  Ema* average() const { return options_.average.get(); }  // or null
  // Exchanges averages and live values (Ema::swap), on all ranks at once.
  void swap_average() const;
  int64_t replays() const { return graph_.replays(); }
  // Values of parameters and moments that are not finite.
  int64_t count_nonfinite() const;

  // Writes optimizer.safetensors, train_state.json and, where there is an average,
  // model_ema.safetensors: all but the parameters, whose file is the model's. Returns the names.
  // With a shard, without the first and the last of these, which are in the ranks' parts:
  // optimizer.rank-000.safetensors, ... and the whole average. All ranks write them at once.
  std::vector<std::string> save(const std::filesystem::path& folder) const;
  std::vector<std::string> save_part(const std::filesystem::path& folder) const;
  bool sharded() const { return options_.shard || (options_.ranks && options_.ranks->has_part()); }
  // Files of either kind, and of any number of ranks.
  void load(const std::filesystem::path& folder);

 private:
  std::vector<NamedParameter> parameters_;
  std::unique_ptr<Optimizer> optimizer_;
  UpdateOptions options_;
  StepGraph graph_;
  std::vector<Tensor> losses_;  // of the step under way
  double loss_sum_ = 0;         // since take_mean_loss()
  int64_t loss_steps_ = 0;
};

}  // namespace mullion
