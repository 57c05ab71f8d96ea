// A step's time and memory are measured on this machine; the rest is multiplication.
#include "apps/tic/plan.h"

#include <algorithm>
#include <cmath>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/run/ranks.h"
#include "apps/tic/image_data.h"
#include "apps/tic/initial_checkpoint.h"
#include "apps/tic/step_cost.h"

namespace mullion {

namespace {
constexpr int kProbed = 3;  // images

struct Probe {
  double seconds = 0;       // of an image, where several are computed together
  double bytes = 0;         // of one image
  double bytes_more = 0;    // of each further image
  double bytes_of_all = 0;  // of the several
};

Probe probe(const Options& o, const TicConfig& config, const SampleShape& shape, Device device) {
  Tic model(config);
  model.initialize(o.seed());
  move_to(model, device);
  model.set_compute_type(apply_amp(o, device));
  model.set_recompute(o.get<bool>("model.grad_checkpointing"));
  set_trainable(model, [](const std::string&) { return true; });
  const auto cost = [&](int images) { return step_cost(model, shape, images); };
  Probe result;
  cost(1);  // makes the gradients, which stay
  result.bytes = cost(1).bytes;
  const StepCost several = cost(kProbed);
  result.bytes_of_all = several.bytes;
  result.bytes_more = (several.bytes - result.bytes) / (kProbed - 1);
  result.seconds = several.seconds / kProbed;
  return result;
}
}  // namespace

void describe_training(const Options& options, const TicConfig& config, const TicData& data,
                       const TicSchedule& schedule) {
  const SampleShape shape = data.train->shape();
  log_info(config.title(), ", ", tic_parameters(config) / 1e6, " M parameters, ",
           data.classes.size(), " classes, ", data.train->size(), " training and ",
           data.val->size(), " validation images of ", shape.height, "x", shape.width);
  tell_of(data);
  if (const auto start = initial_checkpoint(options))
    start->tell(describe_tic(options, config, data));
  explain_cost(config, shape.height, shape.width);
  log_info(schedule.explanation);
  if (const double decay = options.get<double>("optim.layer_decay"); decay != 1)
    log_info("layer decay ", decay, ": the head's rate, ", decay, " of it in the last block, ",
             std::pow(decay, static_cast<double>(config.blocks() + 1)), " in the stem");
  for (const std::string& warning : schedule.warnings) log_warning(warning);
}

TrainingPlan tic_plan(const Options& o, const TicConfig& config, const TicData& data,
                      const TicSchedule& schedule, Device device, bool measure_time) {
  constexpr double kManyPasses = 1000, kQuickMacs = 2e10;
  const SampleShape shape = data.train->shape();
  const double parameters = tic_parameters(config);
  const int64_t images = data.train->size(), batch = o.get<int64_t>("train.batch_size");
  TrainingPlan plan;
  plan.total_steps = schedule.total_steps;
  plan.steps_per_epoch = static_cast<double>(schedule.steps_per_epoch);
  plan.data = concat(images, data.train_folder ? " images" : " scenes");
  plan.dropped_count = images - schedule.batches_per_epoch * batch;
  if (plan.dropped_count > 0)
    plan.dropped = concat(plan.dropped_count,
                          " of each pass, other ones every time, fill no batch "
                          "and are left out");
  if (o.get<int64_t>("schedule.max_steps") > 0) plan.passes_to_warn_of = kManyPasses;
  const RankedTraining ranked = tic_ranked(o, config, device);
  plan.checkpoint_bytes =
      static_cast<uint64_t>(4 * parameters * static_cast<double>(1 + ranked.states));
  plan.checkpoints = o.get<int64_t>("save.keep");
  double probed = 0;  // bytes
  if (measure_time ||
      static_cast<double>(tic_macs(config, shape.height, shape.width)) < kQuickMacs) {
    const Probe p = probe(o, config, shape, device);
    probed = ranked.weights.whole_bytes(0) + p.bytes_of_all;
    plan.passing_bytes = p.bytes + static_cast<double>(batch - 1) * p.bytes_more;
    plan.memory_bytes = ranked.weights.whole_bytes(ranked.states) + plan.passing_bytes;
    if (measure_time) {
      plan.step_seconds = p.seconds * static_cast<double>(schedule.global_batch);
      plan.step_source = concat("measured on ", kProbed, " images");
    }
  }
  plan_over_ranks(o, ranked, plan);
  // What is spread has first been probed as a whole, with its gradients.
  if (spreads_weights(o)) plan.memory_bytes = std::max(plan.memory_bytes, probed);
  return plan;
}

}  // namespace mullion
