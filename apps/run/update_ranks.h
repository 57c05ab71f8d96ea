// An update step (optim/update_step.h) over all ranks, the same for every trainer.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "optim/parallel/full_shard.h"
#include "optim/update_step.h"

namespace mullion {

// --shard none|optimizer|full, --overlap, --ranks.
void add_update_rank_options(OptionTable& table);

// What ranks share, as it is known before anything is read.
struct SharedStep {
  int64_t passes = 1;        // of a step, on all ranks together
  int64_t ranks_a_pass = 1;  // as StepRanks has it
  bool recomputed = false;   // whether the backward pass computes each block again
};
// Error(usage) where the ranks that there are, or that a dry run plans for, cannot make such steps.
// In a process that is alone options of ranks are logged to change nothing.
void check_shared_step(const Options& options, const SharedStep& step);
// The same for weights that are held in the blocks of their file, of these types; "": none are.
void check_blocks_stay(const Options& options, const std::string& types);

// Whether --shard full spreads the weights: not in a process that is alone.
bool spreads_weights(const Options& options);

// A model whose weights can be spread.
struct ModelUnits {
  Module& model;
  std::vector<Module*> units;
  Device device;            // on which they will be; the model may be elsewhere
  bool rest_stays = false;  // of SpreadPlan
  std::function<void(const std::string&, const Tensor&)> fill = {};  // of FullShardOptions
};

// Gradients are added up over the ranks, and with --shard optimizer the groups become this rank's
// own; in a process that is alone all stays as it is. With --shard full `trained` and the groups
// become this rank's pieces, and the result is what holds them. The step has been checked.
std::shared_ptr<FullShard> spread_over_ranks(const Options& options, const SharedStep& step,
                                             std::vector<NamedParameter>& trained,
                                             std::vector<ParameterGroup>& groups,
                                             UpdateOptions& update, const ModelUnits& units);

}  // namespace mullion
