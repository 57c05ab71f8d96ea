// An update step (optim/update_step.h) over all ranks, the same for every trainer.
#pragma once
#include <memory>
#include <vector>

#include "apps/options/options.h"
#include "optim/parallel/full_shard.h"
#include "optim/update_step.h"

namespace mullion {

// --shard none|optimizer|full, --overlap.
void add_update_rank_options(OptionTable& table);

// Whether --shard full spreads the weights: not in a process that is alone.
bool spreads_weights(const Options& options);

// A model whose weights can be spread.
struct ModelUnits {
  Module& model;
  std::vector<Module*> units;
  Device device;  // on which they will be; the model may be elsewhere
};

// Gradients are added up over the ranks, and with --shard optimizer the groups become this rank's
// own; in a process that is alone all stays as it is. `passes`: of a step, on all ranks together;
// `ranks_a_pass` as StepRanks has it. With --shard full `trained` and the groups become this rank's
// pieces, and the result is what holds them. Error(usage) where there are fewer passes or
// parameters than ranks, or the model has no units.
std::shared_ptr<FullShard> spread_over_ranks(const Options& options,
                                             std::vector<NamedParameter>& trained, int64_t passes,
                                             int64_t ranks_a_pass,
                                             std::vector<ParameterGroup>& groups,
                                             UpdateOptions& update,
                                             const ModelUnits* units = nullptr);

}  // namespace mullion
