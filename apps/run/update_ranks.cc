#include "apps/run/update_ranks.h"

#include "apps/run/ranks.h"
#include "optim/parallel/rank_sum.h"

namespace mullion {

void spread_over_ranks(const Options& options, const std::vector<NamedParameter>& trained,
                       int64_t passes, int64_t ranks_a_pass, std::vector<ParameterGroup>& groups,
                       UpdateOptions& update) {
  if (ranks()) {
    update.sum_over_ranks = RankSum(*ranks(), passes, RankSum::kBucketBytes, ranks_a_pass);
    update.graph = GraphUse::off;  // gradients move into buckets
  }
  if (shards_optimizer(options)) {
    update.shard = std::make_shared<OptimizerShard>(*ranks(), trained);
    groups = update.shard->own(groups);
  }
}

}  // namespace mullion
