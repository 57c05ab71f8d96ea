// One run of train_tic: its folder, its state, and what happens around a step.
#pragma once
#include <optional>

#include "apps/common/checkpoint.h"
#include "apps/common/metrics.h"
#include "apps/common/run_folder.h"
#include "apps/tic/evaluate.h"
#include "apps/tic/training.h"

namespace mullion {

class TicRun {
 public:
  // Opens the run's folder; with --resume goes on from the newest checkpoint that verifies.
  TicRun(const Options& options, TicData data);

  // Trains to the end, or until a signal: then everything is saved and stopped() is true.
  void train();
  bool stopped() const { return stopped_; }
  JsonObject result() const;

 private:
  void restore(const CheckpointInfo& checkpoint);
  void save();
  void log_step(const StepResult& step, int64_t images, double seconds, double waited);
  void end_epoch();
  Accuracy validate(const std::string& label);
  Identity identity() const;

  Options options_;
  TicData data_;
  TicConfig config_;
  TicSchedule schedule_;
  RunChoice choice_;
  RunFolder folder_;
  CheckpointStore store_;
  TicState state_;
  std::optional<MetricsLog> metrics_;
  std::optional<SummaryCsv> summary_;
  double last_loss_ = 0, data_share_ = 0;
  int64_t failures_in_a_row_ = 0, best_step_ = -1;
  Accuracy last_;  // of the last evaluation
  bool stopped_ = false;
};

}  // namespace mullion
