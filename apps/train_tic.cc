// train_tic: trains a TiC on a folder of images, or on the generated cue task.
#include "apps/program/log.h"
#include "apps/program/main.h"
#include "apps/tic/trainer.h"
#include "tensor/parallel.h"

namespace mullion {
namespace {

Outcome train(const Options& given) {
  Options options = given;
  set_num_threads(options.threads());
  TicData data = open_tic_data(options);
  const TicSchedule schedule = tic_schedule_of(options, data.train->size());
  derive_intervals(options, schedule);
  if (options.dry_run) {
    const TicConfig config = tic_config_of(options, static_cast<int64_t>(data.classes.size()));
    Tic model(config);
    tell_of(data);
    log_info(schedule.explanation);
    for (const std::string& warning : schedule.warnings) log_warning(warning);
    return JsonObject()
        .set("params", parameter_count(named_parameters(model)))
        .set("macs", tic_macs(config, data.train->shape().height, data.train->shape().width));
  }
  TicTrainer trainer(options, std::move(data));
  TrainingRun run(options, trainer.settings());
  trainer.describe();
  if (run.checkpoint()) trainer.restore(*run.checkpoint());
  trainer.start(run.path(), run.step());
  while (true) {
    run.evaluate([&] { return trainer.evaluate(run.step()); }, [&] { return trainer.state(); });
    if (run.save_due()) run.save(trainer.state());
    if (!run.more()) break;
    run.record(run.make([&](int64_t step) { return trainer.step(step); }));
  }
  Outcome outcome = run.outcome();
  trainer.finish(outcome.result);
  return outcome;
}

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  return mullion::run_program(argc, argv, mullion::train_tic_table(), mullion::train);
}
