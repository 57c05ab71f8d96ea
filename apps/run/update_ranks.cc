#include "apps/run/update_ranks.h"

#include "apps/run/ranks.h"
#include "optim/parallel/rank_sum.h"

namespace mullion {

void add_update_rank_options(OptionTable& table) {
  table
      .add("train.shard", "--shard", "none",
           "optimizer: moments and averages of a parameter live on one rank; full: a rank keeps a "
           "part of the weights as well")
      .one_of({"none", "optimizer", "full"})
      .free_on_resume();
  table
      .add("train.overlap", "--overlap", true,
           "ranks add up gradients while the backward pass goes on, else after it: the same bits")
      .not_with("train.shard", {"full"})
      .free_on_resume();
}

bool spreads_weights(const Options& options) {
  return ranks() && options.get<std::string>("train.shard") == "full";
}

std::shared_ptr<FullShard> spread_over_ranks(const Options& options,
                                             std::vector<NamedParameter>& trained, int64_t passes,
                                             int64_t ranks_a_pass,
                                             std::vector<ParameterGroup>& groups,
                                             UpdateOptions& update, const ModelUnits* units) {
  const auto shard = options.get<std::string>("train.shard");
  if (shard == "full" && !units)
    throw Error("--shard full: the weights of this model cannot be spread over ranks", Fault::usage,
                "--shard optimizer");
  if (!ranks()) {
    for (const char* key : {"train.shard", "train.overlap"})
      if (!options.is_default(key)) options.tell_idle(key, "in a process that is alone");
    return nullptr;
  }
  update.graph = GraphUse::off;  // gradients move
  if (shard == "full") {
    const auto full = std::make_shared<FullShard>(*ranks(), units->model, units->units,
                                                  units->device, passes, ranks_a_pass);
    groups = full->own(groups);
    trained = full->pieces();
    update.ranks = full;
    return full;
  }
  const RankSumOptions sum{.ranks_a_pass = ranks_a_pass,
                           .overlap = options.get<bool>("train.overlap")};
  update.ranks = std::make_shared<RankSum>(*ranks(), trained, passes, sum);
  if (shard == "optimizer") {
    update.shard = std::make_shared<OptimizerShard>(*ranks(), trained);
    groups = update.shard->own(groups);
  }
  return nullptr;
}

}  // namespace mullion
