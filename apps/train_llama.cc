// Trains a LLaMA:
//   train_llama pretrain -m DIR --data book.bin --ctx-size 2048 --attn sf --name long
//   train_llama sft -m DIR --data rows.json --ctx-size 4096 --pack --name tuned
//   train_llama pretrain --model-config tiny.json --data text.bin --ctx-size 128 --attn full
#include "apps/llama/training.h"
#include "apps/program/main.h"
#include "apps/run/training_run.h"

namespace mullion {
namespace {

JsonObject planned(const LlamaTraining& training, const TrainingPlan& plan) {
  JsonObject estimate = training.estimate();
  plan.add_to(estimate);
  return estimate;
}

Outcome train(const Options& options, Learns learns) {
  LlamaTraining training(options, learns);
  if (plans_for_others(options)) return planned(training, training.plan());
  const RunSettings settings = training.settings();
  TrainingRun run(training.options(), settings);
  if (!options.dry_run) settings.plan.tell();
  run.train(training);
  if (options.dry_run) return planned(training, settings.plan);
  training.tell_result(run.path());
  run.tell_end([&](const auto& checkpoint) { return training.next_commands(checkpoint); });
  return run.outcome();
}

Outcome pretrain(const Options& options) { return train(options, Learns::texts); }
Outcome tune(const Options& options) { return train(options, Learns::instructions); }

}  // namespace
}  // namespace mullion

int main(int argc, char** argv) {
  using namespace mullion;
  return run_program(argc, argv, "Trains a LLaMA.",
                     {{pretrain_table(), pretrain}, {sft_table(), tune}});
}
