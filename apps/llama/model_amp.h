// --amp for a model of text.
#pragma once
#include "apps/options/device.h"
#include "nn/module.h"

namespace mullion {

// Sets the precision of products and returns the type of activations. On the CPU bf16 is for what
// meets a matrix held in bf16; that a model has none is told.
DType apply_amp(const Options& options, Module& model);

}  // namespace mullion
