// What train_tic is made of: its options, its data, and the state of a run.
#pragma once
#include <memory>
#include <optional>

#include "apps/common/training_run.h"
#include "apps/tic/model_folder.h"
#include "autograd/step_graph.h"
#include "data/image_folder.h"
#include "data/loader.h"
#include "optim/ema.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace mullion {

// The options that make a TicConfig of a preset: --model, --patch-size, --msa-kernel, --shift, ...
void add_tic_architecture(OptionTable& table);
OptionTable train_tic_table();

struct TicData {
  std::unique_ptr<Dataset> train, val;
  std::shared_ptr<const ImageFolder> train_folder, val_folder;  // null: "cue"
  std::vector<std::string> classes;
  Normalization normalization;
};
// --data-dir DIR with folders train and val (or test), or "cue": scenes made in the loader, fresh
// ones at every step.
TicData open_tic_data(const Options& options);
// Says what of the folders is not used, and which classes are validated on their training images.
void tell_of(const TicData& data);
TicConfig tic_config_of(const Options& options, int64_t num_classes);
// Images a step; the line that explains the learning rate.
struct TicSchedule {
  Schedule schedule;
  int64_t batches_per_epoch = 0, steps_per_epoch = 0, total_steps = 0, global_batch = 0;
  double warmup_epochs = 0;
  std::string explanation;
  std::vector<std::string> warnings;
};
TicSchedule tic_schedule_of(const Options& options, int64_t train_size);
// What follows from the schedule where it is unset: "schedule.warmup_epochs", "eval.every" and
// "save.every".
void derive_intervals(Options& options, const TicSchedule& schedule);
LoaderOptions train_loader_options(const Options& options, const TicSchedule& schedule,
                                   int64_t step);

// What goes into config.json beside the weights.
TicDescription describe_tic(const Options& options, const TicConfig& config, const TicData& data);

// Everything a step changes, and so everything a checkpoint holds.
struct TicState {
  Device device;
  std::unique_ptr<Tic> model;
  std::vector<NamedParameter> parameters;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Ema> ema;           // null without --model-ema
  std::unique_ptr<StepGraph> passes;  // forward and backward of a step
  double epoch_loss = 0;              // summed over the steps since the last evaluation
  int64_t epoch_steps = 0;
};
// Weight decay on matrices and kernels, none on norms and biases.
TicState make_tic_state(const Options& options, const TicConfig& config);

// A batch where it is computed; its labels stay on the host, where an op looks at them.
struct TicBatch {
  Tensor images, labels, targets;  // targets: undefined where labels are neither mixed nor smoothed
};

// The training batches in their order, on a device. A GPU computes while the host goes on, so the
// next batch can be sent to it ahead of time.
class TicBatches {
 public:
  TicBatches(const Dataset& data, const LoaderOptions& options, Device device);
  TicBatch next();
  void send_ahead();  // the one that next() will give; on the CPU nothing would be won
  LoaderReport report() const { return loader_.report(); }

 private:
  TicBatch fetch();
  SampleShape shape_;
  Loader loader_;
  Device device_;
  Batch batch_;
  std::optional<TicBatch> ahead_;
};

// One update from as many batches as the options say, by the gradient of the mean loss over all
// their images; fills the report's items, loss, gradient norm and `applied`. report.lr is the rate.
void tic_step(TicState& state, TicBatches& batches, const Options& options, int64_t number,
              StepReport& report);

}  // namespace mullion
