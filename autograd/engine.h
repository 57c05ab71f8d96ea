// The backward pass.
#pragma once
#include "autograd/node.h"

namespace mullion {

// Adds to grad() of every leaf below `y` the gradient of sum(y * g). Without g, y must be a scalar
// and g is 1. Every closure is freed as soon as it has run, so a graph serves one backward.
void backward(const Tensor& y, const Tensor& g = {});

}  // namespace mullion
