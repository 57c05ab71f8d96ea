// What train_tic is made of: its options, its data, and the state of a run.
#pragma once
#include <memory>

#include "apps/common/options.h"
#include "apps/tic/model_folder.h"
#include "data/loader.h"
#include "optim/ema.h"
#include "optim/optimizer.h"
#include "optim/schedule.h"

namespace mullion {

OptionTable train_tic_table();

struct TicData {
  std::unique_ptr<Dataset> train, val;
  std::vector<std::string> classes;
  Normalization normalization;
};
// --data-dir DIR with folders train and val (or test), or "cue": scenes made in the loader, fresh
// ones at every step.
TicData open_tic_data(const Options& options);
TicConfig tic_config_of(const Options& options, int64_t num_classes);
// Images a step; the line that explains the learning rate.
struct TicSchedule {
  Schedule schedule;
  int64_t steps_per_epoch = 0, total_steps = 0, global_batch = 0;
  std::string explanation;
};
TicSchedule tic_schedule_of(const Options& options, int64_t train_size);
LoaderOptions train_loader_options(const Options& options, const TicSchedule& schedule,
                                   int64_t step);

// Everything a step changes, and so everything a checkpoint holds.
struct TicState {
  std::unique_ptr<Tic> model;
  std::vector<NamedParameter> parameters;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Ema> ema;  // null without --model-ema
  int64_t step = 0;          // done
  int64_t skipped = 0;       // steps whose loss or gradient was not finite
  double epoch_loss = 0;     // of this epoch's steps so far, summed
  double best = -1;          // top-1 of the best epoch
};
// Weight decay on matrices and kernels, none on norms and biases.
TicState make_tic_state(const Options& options, const TicConfig& config);

struct StepResult {
  double loss = 0, grad_norm = 0, lr = 0;
  bool applied = true;
};
// One update from `micro` batches: the gradient of the mean loss over all their images.
StepResult tic_step(TicState& state, const std::vector<Batch>& micro, const SampleShape& shape,
                    const Options& options, double lr);

}  // namespace mullion
