// What the update step (optim/update_step.h) of one of several ranks does otherwise than that of a
// process alone: rank_sum.h where each rank has all weights, full_shard.h where it has a part.
//
// Passes are dealt out to the ranks in turn (pass p is rank p % size's). Everything in a pass (its
// rows, its masks, its scale, 1 over the targets of the whole step) is a function of the pass's
// number, so the number of ranks changes nothing but the order in which gradients are added.
#pragma once
#include <cstdint>
#include <vector>

#include "nn/module.h"
#include "tensor/collective.h"

namespace mullion {

// How many of a step's passes a rank makes. Error(usage) where there are fewer passes than ranks.
int64_t passes_of_rank(int64_t passes, int64_t rank, int64_t ranks);

class StepRanks {
 public:
  // `passes`: of a step, on all ranks together. `ranks_a_pass`: neighbours that make a pass
  // together, and have a part of its loss and of its gradients each; it divides the ranks.
  StepRanks(Communicator& ranks, int64_t passes, int64_t ranks_a_pass);
  virtual ~StepRanks() = default;
  StepRanks(const StepRanks&) = delete;
  StepRanks& operator=(const StepRanks&) = delete;

  // The backward pass from the loss of the next of this rank's passes.
  virtual void backward(const Tensor& loss) = 0;
  // After the last one. The losses of all passes, in the order of the passes, take the place of
  // this rank's own; gradients are then those of all ranks.
  virtual void finish(std::vector<Tensor>& losses) = 0;
  // The squares of the gradients that this rank has, one f64, become those of all.
  virtual void add_up(Tensor& /*squares*/) const {}
  // Whether this rank updates a part of the weights alone, whose moments it saves alone.
  virtual bool has_part() const { return false; }
  // Where it does: all that is trained, whole in the model and in memory of the host, on the first
  // rank with its values, until let_go() or the next pass. All ranks call it at once.
  virtual std::vector<NamedParameter> collect() { return {}; }
  virtual void let_go() {}
  int64_t rank() const { return ranks_.rank(); }

 protected:
  int64_t own_passes() const { return passes_of_rank(passes_, group_, groups_); }
  // For finish(); waits for the other ranks.
  void share_losses(std::vector<Tensor>& losses) const;

  Communicator& ranks_;
  int64_t passes_, group_, groups_;  // of ranks that make a pass together
};

}  // namespace mullion
