// A step's time and memory are measured on this machine; the rest is multiplication.
#include "apps/tic/plan.h"

#include <algorithm>
#include <cmath>

#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/run/rank_devices.h"
#include "apps/run/ranks.h"
#include "apps/tic/image_data.h"
#include "apps/tic/initial_checkpoint.h"
#include "apps/tic/step_cost.h"

namespace mullion {

namespace {
constexpr int64_t kProbed = 3;  // images

struct Probe {
  double seconds = 0;     // of an image, where several are computed together; 0: not measured
  double bytes = 0;       // of one image
  double bytes_more = 0;  // of each further image
  int64_t probed = 0;     // images of this size that were computed together
  double bytes_of(int64_t images) const {
    return bytes + static_cast<double>(images - 1) * bytes_more;
  }
};

double weights_and_gradients(const TicConfig& config) { return 2 * 4 * tic_parameters(config); }

bool has_memory(double bytes, Device device) {
  try {
    require_memory_of_ranks(bytes, device);
    return true;
  } catch (const Error& error) {
    if (error.fault() != Fault::memory) throw;
    return false;
  }
}

// Of three images; for the time of more, up to `most` together, since a few leave threads and
// devices idle.
Probe measured(const Tic& model, const SampleShape& shape, int64_t most) {
  constexpr double kLongEnough = 0.5;  // seconds of a step
  const double weights = weights_and_gradients(model.config());
  step_cost(model, shape, 1);  // makes the gradients, which stay
  Probe p;
  p.bytes = step_cost(model, shape, 1).bytes;
  StepCost several = step_cost(model, shape, kProbed);
  p.bytes_more = (several.bytes - p.bytes) / (kProbed - 1);
  p.probed = kProbed;
  while (2 * p.probed <= most && several.seconds < kLongEnough &&
         has_memory(weights + p.bytes_of(2 * p.probed), model.device())) {
    p.probed *= 2;
    several = step_cost(model, shape, p.probed);
  }
  p.seconds = several.seconds / static_cast<double>(p.probed);
  return p;
}

// From small images: what a pass holds beside the weights grows with the pixels.
Probe extrapolated(const Tic& model, const SampleShape& shape) {
  const auto pixels = [](const SampleShape& s) { return static_cast<double>(s.height) * s.width; };
  SampleShape small = shape, larger = shape;
  small.height = small.width = static_cast<int>(8 * model.config().patch);
  larger.height = larger.width = 2 * small.height;
  step_cost(model, small, 1);
  const double bytes = step_cost(model, larger, 1).bytes;
  const double a_pixel =
      (bytes - step_cost(model, small, 1).bytes) / (pixels(larger) - pixels(small));
  return {.bytes = bytes + a_pixel * (pixels(shape) - pixels(larger)),
          .bytes_more = a_pixel * pixels(shape)};
}

// What the images of a step take, measured where that is quick or the time is asked for, and where
// the machine has the memory for it. A step of fewer images may still have enough, so that nothing
// is refused here but the weights.
Probe probe(const Options& o, const TicConfig& config, const SampleShape& shape, Device device,
            bool measure_time) {
  constexpr double kQuickMacs = 2e10;
  const double weights = weights_and_gradients(config);
  require_memory_of_ranks(weights, device);
  Tic model(config);
  model.initialize(o.seed());
  move_to(model, device);
  model.set_compute_type(apply_amp(o, device));
  model.set_recompute(o.get<bool>("model.grad_checkpointing"));
  set_trainable(model, [](const std::string&) { return true; });
  const bool is_small = std::max(shape.height, shape.width) <= 16 * config.patch,
             is_quick =
                 static_cast<double>(tic_macs(config, shape.height, shape.width)) < kQuickMacs;
  if (!is_small && device.type == DeviceType::cpu) {
    const Probe p = extrapolated(model, shape);
    const bool is_wanted = is_quick || measure_time;
    if (!is_wanted) return p;
    if (!has_memory(weights + p.bytes_of(kProbed), device)) {
      if (measure_time)
        log_info("not timed: that takes ", kProbed, " images, more than the memory here holds");
      return p;
    }
  }
  if (!is_quick && !measure_time) return {};
  return measured(model, shape, measure_time ? o.get<int64_t>("train.batch_size") : kProbed);
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
    start->tell(describe_tic(options, config, data),
                options.get<std::string>("save.resume") != "no");
  explain_cost(config, shape.height, shape.width);
  log_info(schedule.explanation);
  if (const auto repeats = options.get<int>("augment.repeats"); repeats > 1) {
    const int64_t places = schedule.batches_per_epoch * options.get<int64_t>("train.batch_size");
    log_info("each image of a pass stands in it ", repeats, " times (--aug-repeats): a pass sees ",
             (places + repeats - 1) / repeats, " of the ", data.train->size(), " images");
  }
  if (const auto off = options.get<int64_t>("augment.mixup_off_epoch");
      off * schedule.steps_per_epoch >= schedule.total_steps)
    options.tell_idle("augment.mixup_off_epoch", "in a training that ends before");
  if (const double decay = options.get<double>("optim.layer_decay"); decay != 1)
    log_info("layer decay ", decay, ": the head's rate, ", decay, " of it in the last block, ",
             std::pow(decay, static_cast<double>(config.blocks() + 1)), " in the stem");
  for (const std::string& warning : schedule.warnings) log_warning(warning);
}

TrainingPlan tic_plan(const Options& o, const TicConfig& config, const TicData& data,
                      const TicSchedule& schedule, Device device, bool measure_time) {
  constexpr double kManyPasses = 1000;
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
  Probe p;
  try {
    p = probe(o, config, shape, device, measure_time);
  } catch (const Error& error) {
    if (error.fault() != Fault::memory || !plans_for_others(o)) throw;
    log_info("not measured here: ", error.what());
  }
  if (measure_time && p.seconds > 0) {
    plan.step_seconds = p.seconds * static_cast<double>(schedule.global_batch);
    plan.step_source = concat("measured on ", p.probed, " images");
  }
  const RankedTraining ranked = tic_ranked(o, config, device);
  plan.checkpoint_bytes =
      static_cast<uint64_t>(4 * parameters * static_cast<double>(1 + ranked.states));
  plan.checkpoints = o.get<int64_t>("save.keep");
  if (p.bytes > 0) {
    plan.passing_bytes = p.bytes_of(batch);
    plan.live_bytes = ranked.weights.whole_bytes(ranked.states) + plan.passing_bytes;
  }
  plan_over_ranks(o, ranked, plan);
  // What is spread has first been probed as a whole, with its gradients.
  if (p.bytes > 0 && spreads_weights(o))
    plan.live_bytes = std::max(
        plan.live_bytes, ranked.weights.whole_bytes(0) + (p.probed > 0 ? p.bytes_of(kProbed) : 0));
  return plan;
}

}  // namespace mullion
