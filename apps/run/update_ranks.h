// An update step (optim/update_step.h) over all ranks, the same for every trainer.
#pragma once
#include <vector>

#include "apps/options/options.h"
#include "optim/update_step.h"

namespace mullion {

// --shard none|optimizer, --overlap.
void add_update_rank_options(OptionTable& table);

// Gradients are added up over the ranks, and with --shard optimizer the groups become this rank's
// own; in a process that is alone all stays as it is. `passes`: of a step, on all ranks together;
// `ranks_a_pass` as RankSum has it. Error(usage) where there are fewer passes or parameters than
// ranks.
void spread_over_ranks(const Options& options, const std::vector<NamedParameter>& trained,
                       int64_t passes, int64_t ranks_a_pass, std::vector<ParameterGroup>& groups,
                       UpdateOptions& update);

}  // namespace mullion
