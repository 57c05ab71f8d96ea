// The figures of a run, in the three forms that tools read: a line of metrics.jsonl, TensorBoard's
// events, and the history of trainer_state.json, which every checkpoint holds and which knows the
// best of them. Of several ranks the first one alone has the files.
#pragma once
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apps/run/metrics.h"
#include "apps/run/tensorboard.h"
#include "apps/run/training_plan.h"
#include "optim/update_step.h"

namespace mullion {

using NamedNumbers = std::vector<std::pair<std::string, double>>;

// What a program tells of one step, and what goes into metrics.jsonl. The loss is the mean over the
// step's targets.
struct StepReport : UpdateReport {
  double lr = 0;
  int64_t items = 0;        // tokens or images
  double data_seconds = 0;  // of waiting for data
  NamedNumbers extra = {};  // further fields of the line
};

// The figure by which the checkpoints of a run are compared.
struct Metric {
  std::string name = "loss";
  bool more_is_better = false;
};

struct Evaluation {
  double loss = 0;
  double metric = 0;                   // the figure of the run's Metric
  std::optional<double> train_loss;    // mean since the evaluation before
  std::optional<double> guess_metric;  // which guessing reaches, by chance; none: not known
  bool complete = true;  // false: a signal ended it; it is repeated when the run goes on
  bool present = true;   // false: there was nothing to evaluate on
  NamedNumbers fields;   // of the line in metrics.jsonl and the outcome, beside the loss
};

class TrainingRecord {
 public:
  // `rate`: the key of items a second, "tok_s" or "img_s".
  TrainingRecord(const TrainingPlan& plan, std::string rate, Metric metric);

  // Goes on from the history in `file` of a checkpoint, whose contents are `text`.
  void restore(const std::string& text, const std::string& file);
  // Opens the files in the folder of the run, whose lines after `step` are cut. The events of a
  // run that was resumed say so.
  void open(const std::filesystem::path& run, int64_t step, bool resumed);

  double epoch(int64_t step) const;  // 0 where there are none
  // The step of this number, counted from 1, in `seconds`, with the most bytes of memory so far.
  // `logged`: in the events and the history as well.
  void step(int64_t step, const StepReport& report, double seconds, int64_t peak_bytes,
            bool logged);
  // An evaluation after `step`; whether it is the best one so far.
  bool evaluation(int64_t step, const Evaluation& evaluation);
  std::optional<double> best_metric() const { return history_.best_metric; }
  int64_t best_step() const;  // -1: none

  // Before a checkpoint at `step`: its lines are on the disk. The text of trainer_state.json.
  std::string save(int64_t step);

 private:
  JsonObject line(int64_t step, const char* split) const;

  const int64_t total_steps_;
  const double steps_per_epoch_;
  const std::string rate_;
  const Metric metric_;
  TrainerState history_;
  std::optional<MetricsLog> metrics_;
  std::optional<EventWriter> events_;
};

}  // namespace mullion
