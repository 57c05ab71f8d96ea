// Sums over the sizes of weights, for each way of sharing.
#include "apps/run/rank_plan.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "apps/run/ranks.h"
#include "optim/parallel/rank_sum.h"
#include "optim/parallel/shard.h"
#include "tensor/allocation.h"

namespace mullion {

WeightSizes::WeightSizes(Module& model, const std::vector<Module*>& units, DeviceType device)
    : WeightSizes(units.size(), device) {
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
  const int64_t bytes = elements * (width == 0 ? size_of(DType::f32) : width);
  (width == 0 ? trained_bytes_ : frozen_bytes_) += allocated_bytes(bytes, device_);
  if (width > 0) {
    unit.frozen += SpreadUnit::padded(bytes);
    return;
  }
  trained_.push_back(elements);
  unit.trained.push_back(SpreadUnit::padded(bytes));
}

double WeightSizes::whole_bytes(int64_t states) const {
  return static_cast<double>(frozen_bytes_ + (2 + states) * trained_bytes_);
}

namespace {

// What one rank owns with --shard optimizer, at most.
struct Owned {
  int64_t elements = 0, bytes = 0;
};
Owned most_owned(const std::vector<int64_t>& trained, int64_t ranks, DeviceType device) {
  const std::vector<int64_t> owners = shard_owners(trained, ranks);
  std::vector<Owned> owned(static_cast<size_t>(ranks));
  Owned most;
  for (size_t i = 0; i < owners.size(); ++i) {
    Owned& by = owned[static_cast<size_t>(owners[i])];
    by.elements += trained[i];
    by.bytes += allocated_bytes(4 * trained[i], device);
    most = {std::max(most.elements, by.elements), std::max(most.bytes, by.bytes)};
  }
  return most;
}

// What sums of gradients (optim/parallel/rank_sum.h) take beside the step of a process that is
// alone, in which each gradient is there once and a pass takes `passing` bytes at its peak.
//
// While bucket k is packed, b_k bytes as they are allocated, its gradients are there twice; on the
// CPU the others' shares of it, (n - 1) / n, arrive beside it (tensor/exchange_collective.h). By
// then the pass has given back about that part c_k of its bytes whose gradients are complete. So at
// most this is added to what lives:
//
//   max over k of  b_k + arriving_k - passing c_k,  or 0
double bytes_of_sums(std::vector<int64_t> trained, int64_t ranks, DeviceType device,
                     double passing) {
  std::reverse(trained.begin(), trained.end());  // as gradients get complete
  const double all = std::accumulate(trained.begin(), trained.end(), 0.0);
  double more = 0, complete = 0;
  auto next = trained.begin();
  for (const size_t members : bucket_members(trained, RankSumOptions().bucket_bytes)) {
    int64_t bytes = 0;
    for (size_t i = 0; i < members; ++i, ++next) {
      bytes += SpreadUnit::padded(4 * *next);
      complete += static_cast<double>(*next);
    }
    const int64_t others =
        device == DeviceType::cpu ? allocated_bytes(bytes / ranks * (ranks - 1)) : 0;
    more = std::max(more, static_cast<double>(allocated_bytes(bytes, device) + others) -
                              passing * complete / all);
  }
  return more;
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
  const DeviceType device = training.weights.device();
  const double whole = training.weights.whole_bytes(training.states);
  double more =  // than a process that is alone takes
      bytes_of_sums(sizes, ranks, device, plan.passing_bytes);
  // A sum over n ranks moves 2 (n - 1) / n of its bytes (tensor/collective.h).
  plan.sent_bytes = 2.0 * 4 * static_cast<double>(trained) * static_cast<double>(ranks - 1) /
                    static_cast<double>(ranks);
  if (shard == "optimizer") {
    const Owned owned = most_owned(sizes, ranks, device);
    const double states = whole - training.weights.whole_bytes(0);
    more += static_cast<double>(training.states * owned.bytes) - states;
    plan.sent_bytes += 4.0 * static_cast<double>(owned.elements * (ranks - 1));
  }
  if (shard == "full") {
    const SpreadPlan spread{.ranks = ranks,
                            .ranks_a_pass = step.ranks_a_pass,
                            .passes = step.passes,
                            .units = training.weights.units(),
                            .overlap = options.get<bool>("train.overlap"),
                            .rest_stays = training.rest_stays,
                            .device = device};
    spread.check();
    plan.spread_bytes = static_cast<double>(spread.peak_bytes(training.states));
    more = plan.spread_bytes - whole;
    plan.sent_bytes = static_cast<double>(spread.sent_bytes());
  }
  plan.sent_bytes += static_cast<double>(own) * training.exchanged_a_pass;
  if (plan.live_bytes > 0) plan.live_bytes += more;
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
