#include "apps/run/rank_plan.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "apps/run/ranks.h"
#include "optim/parallel/shard.h"

namespace mullion {

WeightSizes::WeightSizes(Module& model, const std::vector<Module*>& units)
    : WeightSizes(units.size()) {
  std::unordered_map<const Tensor::Impl*, size_t> block_of;
  for (size_t i = 0; i < units.size(); ++i)
    for (const NamedParameter& p : named_parameters(*units[i])) block_of[&p.value.impl()] = i;
  for (const NamedParameter& p : named_parameters(model)) {
    const auto found = block_of.find(&p.value.impl());
    add(found == block_of.end() ? units.size() : found->second, p.value.numel(),
        requires_grad(p.value) ? 0 : size_of(p.value.dtype()));
  }
}

void WeightSizes::add(size_t block, int64_t elements, int64_t width) {
  SpreadUnit& unit = units_[block];
  if (width == 0) trained_.push_back(elements);
  (width == 0 ? unit.trained : unit.frozen) +=
      SpreadUnit::padded(elements * (width == 0 ? size_of(DType::f32) : width));
}

double WeightSizes::whole_bytes(int64_t states) const {
  int64_t bytes = 0;
  for (const SpreadUnit& unit : units_) bytes += unit.frozen + (2 + states) * unit.trained;
  return static_cast<double>(bytes);
}

namespace {

// The most elements that one rank owns with --shard optimizer.
int64_t most_owned(const std::vector<int64_t>& trained, int64_t ranks) {
  const std::vector<int64_t> owners = shard_owners(trained, ranks);
  std::vector<int64_t> owned(static_cast<size_t>(ranks));
  for (size_t i = 0; i < owners.size(); ++i) owned[static_cast<size_t>(owners[i])] += trained[i];
  return *std::max_element(owned.begin(), owned.end());
}

}  // namespace

void plan_over_ranks(const Options& options, const RankedTraining& training, TrainingPlan& plan) {
  if (!has_ranks()) return;
  const SharedStep& step = training.step;
  const auto shard = options.get<std::string>("train.shard");
  const int64_t ranks = rank_count(), groups = ranks / step.ranks_a_pass;
  const int64_t own = passes_of_rank(step.passes, 0, groups);
  const std::vector<int64_t>& sizes = training.weights.trained();
  const int64_t trained = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  double saved = 0;  // of the memory of a process that is alone
  // A sum over n ranks moves 2 (n - 1) / n of its bytes (tensor/collective.h).
  plan.sent_bytes = 2.0 * 4 * static_cast<double>(trained) * static_cast<double>(ranks - 1) /
                    static_cast<double>(ranks);
  if (shard == "optimizer") {
    const int64_t owned = most_owned(sizes, ranks);
    saved = 4.0 * static_cast<double>(training.states * (trained - owned));
    plan.sent_bytes += 4.0 * static_cast<double>(owned * (ranks - 1));
  }
  if (shard == "full") {
    const SpreadPlan spread{.ranks = ranks,
                            .ranks_a_pass = step.ranks_a_pass,
                            .passes = step.passes,
                            .units = training.weights.units(),
                            .overlap = options.get<bool>("train.overlap"),
                            .rest_stays = training.rest_stays};
    spread.check();
    plan.spread_bytes = static_cast<double>(spread.peak_bytes(training.states));
    saved = training.weights.whole_bytes(training.states) - plan.spread_bytes;
    plan.sent_bytes = static_cast<double>(spread.sent_bytes());
  }
  plan.sent_bytes += static_cast<double>(own) * training.exchanged_a_pass;
  if (plan.memory_bytes > 0) plan.memory_bytes -= saved;
  plan.ranks = ranks;
  plan.shared = concat(
      "--shard ", shard, ", ", step.passes, step.passes == 1 ? " pass" : " passes", " a step, ",
      step.passes % groups == 0 ? "" : "at most ", own, " of ",
      step.ranks_a_pass > 1 ? concat("each ", step.ranks_a_pass, " ranks") : std::string("each"),
      step.passes % groups == 0 ? "" : ", where the others wait");
  if (plan.step_seconds > 0) {
    plan.step_seconds *=
        static_cast<double>(own) / static_cast<double>(step.passes * step.ranks_a_pass);
    plan.step_source += concat("; by ", ranks, " ranks, without what they send");
  }
}

}  // namespace mullion
