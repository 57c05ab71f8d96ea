// Activation checkpointing (Chen et al. 2016): keep the input of a block, recompute its inside.
#pragma once
#include <functional>

#include "autograd/node.h"

namespace mullion {

// block(x), keeping only x; the backward runs the block again with recording on. The block must
// give the same result each time: its randomness is in arguments it captures.
Tensor checkpoint(const std::function<Tensor(const Tensor&)>& block, const Tensor& x);

}  // namespace mullion
