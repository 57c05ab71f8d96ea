// Context extension by LoRA, training from scratch, tuning on instructions: what train_llama does
// between two lines of its loop. What its verbs differ in is where rows come from
// (training_data.h).
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/llama/context_ranks.h"
#include "apps/llama/training_data.h"
#include "apps/run/rank_plan.h"
#include "apps/run/training_run.h"
#include "models/llama/cost.h"
#include "models/llama/load.h"
#include "optim/parallel/full_shard.h"
#include "optim/schedule.h"
#include "optim/update_step.h"

namespace mullion {

OptionTable pretrain_table();
OptionTable sft_table();

class LlamaTraining {
 public:
  // Opens model and data, and says on stderr what will be trained, on what, under which attention.
  // A dry run says so, and what it takes, before any weight is read; then it reads them as the run
  // would, to be refused what that would be.
  LlamaTraining(const Options& options, Learns learns);

  // Those given, and what followed from them: the epochs of a tuning, what an adapter to start from
  // says.
  const Options& options() const { return options_; }
  RunSettings settings() const;
  // With the time of a step where this is a dry run, by the operations it takes.
  TrainingPlan plan() const;
  // {parameters, trainable, tokens_a_step, memory_gib, tflop_a_step}, and what the data are
  JsonObject estimate() const;

  // One update from batch_size x grad_accum_steps rows. The loss is the mean over all their
  // targets, so that any split of the rows into batches gives the same gradient. Of instructions
  // the report has {targets, masked}: tokens that are learned, and that are not.
  StepReport step(int64_t step);
  // Opens the run's summary.csv. Before the first step, after restore().
  void start(const std::filesystem::path& run, int64_t step);
  // On the validation data, with full attention; also ends a row of summary.csv.
  Evaluation evaluate(int64_t step);
  // Says, after the last step, what a reader of the result has to know.
  void tell_result(const std::filesystem::path& run) const;
  // What to try next with `checkpoint` of a run.
  std::vector<std::string> next_commands(const std::filesystem::path& checkpoint) const;
  TrainingState state();
  void restore(const CheckpointInfo& checkpoint);

 private:
  LlamaCost cost() const;  // of a step
  SharedStep shared_step() const;
  RankedTraining ranked() const;
  int64_t pass_tokens() const;
  DType compute_type() const;        // of activations
  JsonObject step_estimate() const;  // without what the data are, of which other lines tell
  Recompute recompute() const;       // what --grad-checkpointing and --recompute-mlp ask for
  void open_model();
  void open_data();
  void start_from_adapter();
  std::string adapter_base_name() const;  // for adapter_config.json
  void choose_trained(const LlamaCheckpoint* base);
  void make_update();
  void print_banner() const;
  Tensor loss(const UpdateStep::Inputs& inputs);
  Evaluation validate();
  void write_weights(CheckpointWriter& writer);

  Options options_;
  const Learns learns_;
  Device device_;
  ContextRanks context_ranks_;
  int64_t context_, batch_, accumulate_;
  LlamaConfig config_;
  AttentionPattern pattern_;
  std::optional<LoraOptions> lora_;                   // none: every parameter is trained
  LlamaLoadOptions held_;                             // how frozen matrices are
  std::shared_ptr<const TensorSource> base_weights_;  // in the file; null from scratch
  std::string base_name_, base_fingerprint_, tokenizer_hash_;
  std::filesystem::path tokenizer_path_, initial_adapter_;  // "": start from fresh pairs
  std::string rope_lines_;   // Python that a reader of the adapter needs; "" where it needs none
  double product_rate_ = 0;  // of a dry run, operations a second
  std::unique_ptr<Llama> model_;
  std::shared_ptr<FullShard> full_;  // --shard full; else null
  std::unique_ptr<UpdateStep> update_;
  Schedule schedule_;
  std::unique_ptr<TrainingData> data_;
  std::optional<SummaryCsv> summary_;
};

}  // namespace mullion
