// The backward pass.
#pragma once
#include "autograd/node.h"

namespace mullion {

// Adds to grad() of every leaf below `y` the gradient of sum(y * g). Without g, y must be a scalar
// and g is 1. Every closure is freed as soon as it has run, so a graph serves one backward.
void backward(const Tensor& y, const Tensor& g = {});

// For the backward of a loss: whether g is the 1 from which the pass on this thread began, known
// without a look at its value, for which a device would have to be waited for.
bool is_one(const Tensor& g);

}  // namespace mullion
