#include "apps/run/update_ranks.h"

#include "apps/run/ranks.h"

namespace mullion {

void add_update_rank_options(OptionTable& table) {
  table
      .add("train.shard", "--shard", "none",
           "optimizer: moments and averages of a parameter live on one rank")
      .one_of({"none", "optimizer", "full"})
      .free_on_resume();
  table
      .add("train.overlap", "--overlap", true,
           "ranks add up gradients while the backward pass goes on, else after it: the same bits")
      .free_on_resume();
}

void spread_over_ranks(const Options& options, const std::vector<NamedParameter>& trained,
                       int64_t passes, int64_t ranks_a_pass, std::vector<ParameterGroup>& groups,
                       UpdateOptions& update) {
  const auto shard = options.get<std::string>("train.shard");
  if (shard == "full")
    throw Error("--shard full: weights spread over ranks are not built", Fault::usage,
                "--shard optimizer");
  if (!ranks()) {
    for (const char* key : {"train.shard", "train.overlap"})
      if (!options.is_default(key)) options.tell_idle(key, "in a process that is alone");
    return;
  }
  const RankSumOptions sum{.ranks_a_pass = ranks_a_pass,
                           .overlap = options.get<bool>("train.overlap")};
  update.rank_sum = std::make_shared<RankSum>(*ranks(), trained, passes, sum);
  update.graph = GraphUse::off;  // gradients move into buckets
  if (shard == "optimizer") {
    update.shard = std::make_shared<OptimizerShard>(*ranks(), trained);
    groups = update.shard->own(groups);
  }
}

}  // namespace mullion
