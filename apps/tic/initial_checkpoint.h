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

  // Whether a model of `classes` goes on with its head: the same classes in the same order.
  bool keeps_head(const std::vector<std::string>& classes) const;
  // Its weights into a model; the head only where it is kept. Error(bad_file) names a tensor of
  // another size, and both sizes.
  void load(Tic& model, const std::vector<std::string>& classes) const;
  // Says what is taken, what is new, and what differs from how it was trained.
  void tell(const TicDescription& now) const;
};

// Error(usage) where --preset finetune has no model to start from.
void require_start_of_preset(const Options& options);
// --initial-checkpoint, if it is given.
std::optional<InitialCheckpoint> initial_checkpoint(const Options& options);
// The architecture of a training: the checkpoint's, if there is one, with what the options change.
// What it has taken is then set in the options, for the record.
TicConfig training_config(Options& options, int64_t num_classes);

}  // namespace mullion
