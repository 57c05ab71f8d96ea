// What surrounds the steps of a training program: the run's folder and lock, metrics, checkpoints,
// resuming, stopping. A program reads
//
//   TrainingRun run(options, settings);
//   run.train(trainer);
//   return run.outcome();
//
// A step is a function of its number and of what a checkpoint holds, so a resumed run repeats the
// bits of one that was never interrupted.
//
// Of several ranks (apps/run/ranks.h) each makes the same calls; the first one has the folder, and
// writes. All stop at the same step.
#pragma once
#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/program/main.h"
#include "apps/program/progress.h"
#include "apps/program/signals.h"
#include "apps/run/learning_watch.h"
#include "apps/run/run_checkpoint.h"
#include "apps/run/run_folder.h"
#include "apps/run/training_plan.h"
#include "apps/run/training_record.h"
#include "tensor/storage.h"

namespace mullion {

// Adds --max-minutes, --max-skipped, --eval-every to those of add_run_options.
void add_training_options(OptionTable& table, const RunDefaults& defaults = {});

// A dry run with --ranks, which plans for other machines than this one: neither the memory, the
// disk nor the weights here say anything of them.
bool plans_for_others(const Options& options);

// What a checkpoint holds beside the files of TrainingRun itself.
struct TrainingState {
  int64_t non_finite = 0;  // values in weights and moments that are not finite
  std::function<void(CheckpointWriter&)> write;
  // Where ranks hold different parts of the state: this rank's files into the folder; their names.
  std::function<std::vector<std::string>(const std::filesystem::path&)> write_part = nullptr;
};

struct RunSettings {
  std::string what;            // in the default name of the run, e.g. the model
  std::string rate = "tok_s";  // the key of items a second: "tok_s" or "img_s"
  Metric metric;
  TrainingPlan plan;
  double guess_loss = 0;     // of a model that knows nothing, ln n of n classes; 0: not known
  int64_t warmup_steps = 0;  // before which nothing is expected to be learned
  Identity identity;         // beside Options::identity()
  // The same of what is learned from, which older checkpoints do not name; and of what evaluations
  // read, where a difference is told.
  Identity data, judged;
  // Options that say where `data` is: they may differ where that is the same.
  std::vector<std::string> places;
  Identity start;    // what only the ranks must have the same: where a training begins
  JsonObject facts;  // for env.json
  Device device;     // whose memory the metrics tell of
};

// The options that are asked after every step.
struct RunLimits {
  explicit RunLimits(const Options& options);
  int64_t log_every, eval_every, save_every;  // steps; 0: at the end only
  int64_t max_skipped;                        // in a row
  double max_minutes;                         // 0: no limit
};

class TrainingRun {
  using Clock = std::chrono::steady_clock;

 public:
  // Opens or creates the folder, takes its lock, finds the newest checkpoint if asked to resume,
  // cuts the logs back to it. Error(usage) where the checkpoint is of another configuration.
  // A dry run does all that can be refused, and leaves everything as it was.
  TrainingRun(const Options& options, RunSettings settings);

  const std::filesystem::path& path() const { return path_; }

  // The loop, of a trainer that has restore(checkpoint), start(path, steps done), step(number),
  // evaluate(steps done) and state(), what a checkpoint holds. Goes on from the newest checkpoint.
  // A dry run ends before the first step.
  template <typename Trainer>
  void train(Trainer& trainer) {
    if (checkpoint_) trainer.restore(*checkpoint_);
    if (options_.dry_run) return;
    trainer.start(path_, step_);
    while (true) {
      evaluate([&] { return trainer.evaluate(step_); }, [&] { return trainer.state(); });
      if (save_due()) save(trainer.state());
      if (!more()) break;
      record(make([&](int64_t step) { return trainer.step(step); }));
    }
  }

  // Whether another step is to be made: false at the end, or when asked to stop (by a signal,
  // RUN/STOP, --max-minutes); then everything has been saved.
  bool more();
  // Makes the next step: step(number). Its errors of memory get the number and what to change as a
  // message.
  StepReport make(const std::function<StepReport(int64_t)>& step);
  // Ends the step. Error(diverged) where too many in a row could not be applied.
  void record(const StepReport& report);
  // Evaluates where it is due. Where that fails (a validation file that cannot be read), the steps
  // made so far are saved before the error goes on; the resumed run begins with the evaluation.
  void evaluate(const std::function<Evaluation()>& evaluation,
                const std::function<TrainingState()>& state);
  bool save_due();
  void save(const TrainingState& state);

  // Says what was saved and where, and commands to go on with; `commands` are those of the program,
  // for the checkpoint it names (best, else last), before which stands how to go on where the run
  // was stopped.
  void tell_end(
      const std::function<std::vector<std::string>(const std::filesystem::path&)>& commands) const;

  // {steps, final_loss, run, skipped_steps} and the last evaluation; exit code 0 or 75.
  Outcome outcome() const;

 private:
  void open_folder();
  void begin();
  std::vector<std::string> restore();
  void stop_all(bool mine);
  void save_of_ranks(const TrainingState& state);
  std::optional<CheckpointInfo> save_files(const TrainingState& training);
  bool evaluation_due() const;
  void record_evaluation(const Evaluation& evaluation);
  std::string state_text() const;
  void show(const StepReport& report, double seconds);
  bool show_due() const;
  void tell_time();

  Options options_;
  RunLimits limits_;
  RunSettings settings_;
  TrainingRecord record_;
  LearningWatch watch_;
  RunChoice choice_;
  std::filesystem::path path_;
  std::optional<RunFolder> folder_;  // of the first rank alone, as are the files below
  std::optional<CheckpointStore> store_;
  std::optional<RunSwitches> switches_;
  std::optional<CheckpointInfo> checkpoint_;
  std::optional<Progress> progress_;
  Clock::time_point begin_, step_begin_, shown_;
  int64_t first_step_ = 0;       // of this process
  double measured_seconds_ = 0;  // of the steps after the first one, which also warms up
  bool time_told_ = false, ever_shown_ = false;
  uint64_t saved_bytes_ = 0;  // of the last checkpoint
  int64_t step_ = 0, saved_step_ = -1, evaluated_step_ = -1, best_step_ = -1;
  int64_t skipped_ = 0, skipped_in_a_row_ = 0;
  double last_loss_ = 0;
  bool evaluation_pending_ = false;
  bool stopping_ = false;                 // as all ranks have agreed
  std::optional<Evaluation> evaluation_;  // the last one
};

}  // namespace mullion
