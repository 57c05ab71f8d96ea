// tool_tic predict: what a TiC says of images, one by one.
#pragma once
#include "apps/program/main.h"

namespace mullion {

OptionTable predict_table();
// Goes on after an image that cannot be read; the exit code then is that of a bad file.
Outcome predict(const Options& options);

}  // namespace mullion
