// The model that a verb of tool_tic looks into: a checkpoint, or a preset and its changes with
// random weights.
#pragma once
#include "apps/tic/model_folder.h"
#include "apps/tic/training.h"

namespace mullion {

// --checkpoint, --use-ema, and the options of the architecture, which count without it.
void add_model_choice(OptionTable& table);
// `img_size`: that the positions of a global twin are made for, where the model is new. Without a
// checkpoint there are as many classes as the preset has, without names.
LoadedTic chosen_model(const Options& options, int64_t img_size, Device device);
// The side of images where none is given: the checkpoint's, or the preset's usual one.
int usual_size(const TicConfig& config);

}  // namespace mullion
