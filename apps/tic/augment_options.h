// The options of all augmentations, as their files declare them, and a run's settings from them.
#pragma once
#include "apps/options/options.h"
#include "data/augmentation.h"

namespace mullion {

void add_augment_options(OptionTable& table);
// Of samples of size × size.
AugmentSettings augment_settings(const Options& options, int size, Interpolation interpolation,
                                 const Normalization& normalization);

}  // namespace mullion
