// train_tic: trains a TiC on a folder of images, or on the generated cue task.
#include "apps/options/device.h"
#include "apps/program/main.h"
#include "apps/run/rank_devices.h"
#include "apps/tic/initial_checkpoint.h"
#include "apps/tic/trainer.h"

namespace mullion {
namespace {

Outcome train(const Options& given) {
  Options options = given;
  require_start_of_preset(options);
  derive_crop(options);
  check_shared_step(options, tic_shared_step(options));
  TicData data = open_tic_data(options);
  const TicSchedule schedule = tic_schedule_of(options, data.train->size());
  derive_intervals(options, schedule);
  const TicConfig config = training_config(options, static_cast<int64_t>(data.classes.size()));
  const SampleShape shape = data.train->shape();
  TicTrainer trainer(options, config, std::move(data));
  const RunSettings settings = trainer.settings();
  const auto tell = [&] {
    trainer.describe();
    settings.plan.tell();
  };
  JsonObject facts;
  facts.set("params", static_cast<int64_t>(tic_parameters(config)))
      .set("macs", tic_macs(config, shape.height, shape.width));
  settings.plan.add_to(facts);
  if (options.dry_run) tell();  // also where the run is refused
  if (plans_for_others(options)) return facts;
  require_memory_of_ranks(settings.plan.memory_bytes(), settings.device);
  warn_of_used_memory_of_ranks(settings.plan.memory_bytes(), settings.device);
  TrainingRun run(options, settings);
  if (!options.dry_run) tell();
  run.train(trainer);
  if (options.dry_run) return facts;
  Outcome outcome = run.outcome();
  trainer.finish(outcome.result);
  run.tell_end([&](const auto& checkpoint) { return trainer.next_commands(checkpoint); });
  return outcome;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::train_tic_table(), mullion::train);
}
