// Fine-tuning: what a training takes from the checkpoint that it starts from.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "apps/tic/model_folder.h"

namespace mullion {

struct InitialCheckpoint {
  std::filesystem::path folder;
  TicDescription description;
  bool averaged = false;  // whether its average is taken (--initial-ema)
  // It is gone, and this is a checkpoint of the run that is resumed, which has all that is needed.
  bool of_run = false;

  // The file of the weights that are taken. Error(bad_file) where the run kept no average.
  std::filesystem::path weights() const;

  // Which of its classes each of `classes` is; empty: they are others, and the head is not taken.
  std::vector<int64_t> rows_of_head(const std::vector<std::string>& classes) const;
  // Its weights into a model of `classes`. Error(bad_file) names a tensor of another size, and both
  // sizes.
  void load(Tic& model, const std::vector<std::string>& classes) const;
  // Says what is taken, what is new, and what differs from how it was trained. `resumes`: that of a
  // run that may have gone on from there already.
  void tell(const TicDescription& now, bool resumes) const;
};

// Error(usage) where --preset finetune has no model to start from.
void require_start_of_preset(const Options& options);
// --initial-checkpoint, if it is given.
std::optional<InitialCheckpoint> initial_checkpoint(const Options& options);
// The architecture of a training: the checkpoint's, if there is one, with what the options change.
// What it has taken is then set in the options, for the record.
TicConfig training_config(Options& options, int64_t num_classes);

}  // namespace mullion
