// The options, the checks of what a step can share, and the sharer that fits them.
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
      .free_on_resume();
  table
      .add("run.ranks", "--ranks", 0,
           "with --dry-run: as many ranks are planned for (0: those of the launcher)")
      .range(0, 1e6)
      .only_where([](const Options& o) { return o.dry_run; }, "without --dry-run")
      .refused_idle()
      .free_on_resume();
}

namespace {
void require_pass_for_each(const Options& options, const SharedStep& step, int64_t groups) {
  if (step.passes >= groups) return;
  const bool whole = step.ranks_a_pass == 1;
  const std::string who =
      concat(groups, whole ? " ranks" : concat(" groups of ", step.ranks_a_pass, " ranks"), " for ",
             step.passes, step.passes == 1 ? " pass" : " passes", " a step: a ",
             whole ? "rank" : "group", " makes whole passes (--grad-accum-steps)");
  const char* same =
      "a smaller --batch-size and as many times more --grad-accum-steps: the same step";
  const char* other = "fewer ranks, or more --grad-accum-steps, which make a larger step";
  throw Error(who, Fault::usage, options.get<int64_t>("train.batch_size") > 1 ? same : other);
}
}  // namespace

void check_shared_step(const Options& options, const SharedStep& step) {
  if (!has_ranks()) {
    for (const char* key : {"train.shard", "train.overlap"})
      if (options.value(key) != options.table().find(key)->fallback)
        options.tell_idle(key, "in a process that is alone");
    return;
  }
  const int64_t groups = rank_count() / step.ranks_a_pass;
  require_pass_for_each(options, step, groups);
  if (!spreads_weights(options)) return;
  check_equal_passes(step.passes, groups, step.ranks_a_pass);
  if (!step.recomputed)
    throw Error(
        "--shard full: weights come again in the backward pass, block by block, where "
        "blocks are recomputed",
        Fault::usage, "--grad-checkpointing");
}

void check_blocks_stay(const Options& options, const std::string& types) {
  if (spreads_weights(options) && !types.empty())
    throw Error(concat("--shard full: matrices are held in the blocks of their file (", types, ")"),
                Fault::usage, "--weights bf16 or f32");
}

bool spreads_weights(const Options& options) {
  return has_ranks() && options.get<std::string>("train.shard") == "full";
}

std::shared_ptr<FullShard> spread_over_ranks(const Options& options, const SharedStep& step,
                                             std::vector<NamedParameter>& trained,
                                             std::vector<ParameterGroup>& groups,
                                             UpdateOptions& update, const ModelUnits& units) {
  if (!has_ranks()) return nullptr;
  update.graph = GraphUse::off;  // gradients move
  const auto overlap = options.get<bool>("train.overlap");
  if (spreads_weights(options)) {
    const FullShardOptions spread{.ranks_a_pass = step.ranks_a_pass,
                                  .overlap = overlap,
                                  .rest_stays = units.rest_stays,
                                  .fill = units.fill};
    const auto full = std::make_shared<FullShard>(*ranks(), units.model, units.units, units.device,
                                                  step.passes, spread);
    groups = full->own(groups);
    trained = full->pieces();
    update.ranks = full;
    return full;
  }
  const RankSumOptions sum{.ranks_a_pass = step.ranks_a_pass, .overlap = overlap};
  update.ranks = std::make_shared<RankSum>(*ranks(), trained, step.passes, sum);
  if (options.get<std::string>("train.shard") == "optimizer") {
    update.shard = std::make_shared<OptimizerShard>(*ranks(), trained);
    groups = update.shard->own(groups);
  }
  return nullptr;
}

}  // namespace mullion
