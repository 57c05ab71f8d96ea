// What train_tic is made of: its options, its data, its model and its update.
#pragma once
#include <memory>
#include <optional>

#include "apps/run/rank_plan.h"
#include "apps/run/training_run.h"
#include "apps/tic/model_folder.h"
#include "data/image_folder.h"
#include "data/loader.h"
#include "optim/schedule.h"
#include "optim/update_step.h"

namespace mullion {

// The options that make a TicConfig of a preset: --model, --patch-size, --msa-kernel, --shift, ...
void add_tic_architecture(OptionTable& table);
OptionTable train_tic_table();
void add_tic_presets(OptionTable& table);  // recipes for known data

struct TicData {
  std::unique_ptr<Dataset> train, val;
  std::shared_ptr<const ImageSource> train_folder, val_folder;  // null: "cue"
  std::vector<std::string> classes;
  std::vector<std::string> class_names;  // empty, or one a class
  Normalization normalization;
  std::vector<std::string> augmentation;  // steps in order
};
// The share of the centre crop where it is unset: small images are evaluated whole.
void derive_crop(Options& options);
// --data-dir DIR with folders train and val (or test), or "cue": scenes made in the loader, fresh
// ones at every step.
// Error(usage) for augmentations that would have no effect.
TicData open_tic_data(const Options& options);
// Says what of the folders is not used, and which classes are validated on their training images.
void tell_of(const TicData& data);
// `start`: a configuration that holds where the options say nothing, instead of a preset's;
// `img_size`: what the positions of a global twin are made for.
TicConfig tic_config_of(const Options& options, int64_t num_classes,
                        const TicConfig* start = nullptr, int64_t img_size = 224);
int image_size(const Options& options);  // of training, pixels
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

// With the values that a training begins from, all of them trained; in memory of the host where
// they will be spread over ranks.
std::unique_ptr<Tic> make_tic_model(const Options& options, const TicConfig& config,
                                    const std::vector<std::string>& classes, Device device);
SharedStep tic_shared_step(const Options& options);
// What is kept of each weight beside it: two moments of AdamW, one of SGD; an average.
int64_t tic_states(const Options& options);
// The first with the sizes of the weights, for a plan; all of them are trained.
RankedTraining tic_ranked(const Options& options, const TicConfig& config, Device device);
// Weight decay on matrices and kernels, none on norms and biases. The model is used by every step,
// whose inputs are images, labels or targets, and the streams of drop path. `full` is what holds
// the model's weights with --shard full, else null.
struct TicUpdate {
  std::shared_ptr<FullShard> full;
  std::unique_ptr<UpdateStep> step;
};
TicUpdate make_tic_update(const Options& options, Tic& model, Device device);

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
  std::vector<int64_t> bad_samples() const { return loader_.bad_samples(); }

 private:
  TicBatch fetch();
  SampleShape shape_;
  Loader loader_;
  Device device_;
  Batch batch_;
  std::optional<TicBatch> ahead_;
};

}  // namespace mullion
