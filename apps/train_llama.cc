// Trains a LLaMA:
//   train_llama pretrain -m DIR --data book.bin --ctx-size 2048 --attn sf --name long
//   train_llama sft -m DIR --data rows.json --ctx-size 4096 --pack --name tuned
//   train_llama pretrain --model-config tiny.json --data text.bin --ctx-size 128 --attn full
#include "apps/llama/training.h"
#include "apps/program/main.h"
#include "apps/run/training_run.h"

namespace mullion {
namespace {

Outcome train(const Options& options, Learns learns) {
  LlamaTraining training(options, learns);
  if (options.dry_run) {
    const TrainingPlan plan = training.plan();
    plan.tell();
    JsonObject estimate = training.estimate();
    plan.add_to(estimate);
    return estimate;
  }
  TrainingRun run(training.options(), training.settings());
  run.tell_plan();
  run.train(training);
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
