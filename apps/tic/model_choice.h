// The model that a program works on: a checkpoint, or, where only its shape counts, a preset and
// its changes with random weights.
#pragma once
#include "apps/tic/model_folder.h"
#include "apps/tic/training.h"

namespace mullion {

// --checkpoint, which must be given, and --use-ema.
void add_checkpoint_options(OptionTable& table);
LoadedTic checkpoint_model(const Options& options, Device device = {});
// --checkpoint, and the options of the architecture, which count without it.
void add_architecture_choice(OptionTable& table);
// The same with --use-ema.
void add_model_choice(OptionTable& table);
// `img_size`: that the positions of a global twin are made for, where the model is new. Without a
// checkpoint there are as many classes as the preset has, without names.
LoadedTic chosen_model(const Options& options, int64_t img_size, Device device);
// The side of images where none is given: the checkpoint's, or the preset's usual one.
int usual_size(const TicConfig& config);

}  // namespace mullion
