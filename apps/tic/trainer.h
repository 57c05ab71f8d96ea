// The steps of train_tic: what TrainingRun surrounds with folder, metrics and checkpoints.
#pragma once
#include <set>
#include <string>

#include "apps/run/training_run.h"
#include "apps/tic/image_data.h"
#include "apps/tic/training.h"

namespace mullion {

class TicTrainer {
 public:
  TicTrainer(const Options& options, const TicConfig& config, TicData data);

  RunSettings settings() const;
  void restore(const CheckpointInfo& checkpoint);
  // Makes the loader and the summary of a run that starts, or goes on, at `step`.
  void start(const std::filesystem::path& run, int64_t step);
  // One update from as many batches as the options say, by the gradient of the mean loss over all
  // their images.
  StepReport step(int64_t number);
  // Top-1 and top-5 of the weights and of their average, on the validation images; one row of
  // summary.csv.
  Evaluation evaluate(int64_t step);
  TrainingState state() const;
  void describe() const;  // into the log
  // What to try next with `checkpoint` of a run.
  std::vector<std::string> next_commands(const std::filesystem::path& checkpoint) const;
  // Says how many images had something noted, and adds it to the run's result.
  void finish(JsonObject& result) const;

 private:
  void write(CheckpointWriter& writer) const;
  // Says of each image that could not be read that it could not, once.
  void tell(const std::vector<std::string>& messages);
  void check_bad(const LoaderReport& report) const;

  Options options_;
  int64_t batch_, accumulate_;
  TicData data_;
  TicConfig config_;
  TicSchedule schedule_;
  Device device_;
  TrainingPlan plan_;
  std::unique_ptr<Tic> model_;
  std::shared_ptr<FullShard> full_;  // --shard full; else null
  std::unique_ptr<UpdateStep> update_;
  std::unique_ptr<TicBatches> batches_;
  std::optional<SummaryCsv> summary_;
  std::set<std::string> logged_;
  NoteTeller notes_;
};

}  // namespace mullion
