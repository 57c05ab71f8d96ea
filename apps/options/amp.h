// --amp for a model that is there: what it changes, and that it changes nothing.
#pragma once
#include "apps/options/device.h"
#include "nn/module.h"

namespace mullion {

// As for its device alone (device.h). On a CPU bf16 is for what meets a matrix held in bf16: it is
// told where a model has none, or the processor no instructions for it.
DType apply_amp(const Options& options, Module& model);

}  // namespace mullion
