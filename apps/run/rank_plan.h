// A training of several ranks in figures, by the sizes of its weights alone: what each rank takes
// of memory and sends in a step. Said by a dry run as by the run itself.
#pragma once
#include <cstdint>
#include <vector>

#include "apps/run/training_plan.h"
#include "apps/run/update_ranks.h"
#include "optim/parallel/spread_plan.h"

namespace mullion {

// The weights of a model whose `blocks` are its units, on a device.
class WeightSizes {
 public:
  WeightSizes(size_t blocks, DeviceType device) : units_(blocks + 1), device_(device) {}
  // Of a model that is there, and will be on that device.
  WeightSizes(Module& model, const std::vector<Module*>& units, DeviceType device);

  // A tensor of a block, or with `block` = blocks() of none; `width`: bytes of a frozen element, 0
  // where it is trained, in f32.
  void add(size_t block, int64_t elements, int64_t width);
  size_t blocks() const { return units_.size() - 1; }
  const std::vector<SpreadUnit>& units() const { return units_; }
  const std::vector<int64_t>& trained() const { return trained_; }  // elements of each
  // In a process that is alone: weights, and of each trained element its gradient and `states`
  // f32 beside it (moments, an average).
  double whole_bytes(int64_t states) const;
  DeviceType device() const { return device_; }

 private:
  std::vector<SpreadUnit> units_;
  std::vector<int64_t> trained_;
  DeviceType device_;
  int64_t frozen_bytes_ = 0, trained_bytes_ = 0;  // as they are allocated
};

struct RankedTraining {
  SharedStep step;
  WeightSizes weights;
  int64_t states = 2;           // of WeightSizes::whole_bytes()
  bool rest_stays = false;      // of SpreadPlan
  double exchanged_a_pass = 0;  // bytes that a rank sends beside gradients and weights
};

// Where there are ranks, or they are planned for: what `plan` says of a process that is alone
// becomes what it says of each of them. Error(usage) where the weights are too few to be shared.
void plan_over_ranks(const Options& options, const RankedTraining& training, TrainingPlan& plan);

}  // namespace mullion
