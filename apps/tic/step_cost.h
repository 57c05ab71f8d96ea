// What a pass over images takes: measured, for estimates before a training and for tool_tic bench.
#pragma once
#include "data/dataset.h"
#include "models/tic/model.h"

namespace mullion {

struct StepCost {
  double seconds = 0;
  double bytes = 0;  // at most, beyond what was there before; gradients of weights not counted
};

// Forward of `images` blank images, and backward where weights of the model are trained: gradients
// that are not there yet are made, and then stay. Of several calls the first pays for that and for
// memory that is kept.
StepCost step_cost(const Tic& model, const SampleShape& shape, int64_t images);

}  // namespace mullion
