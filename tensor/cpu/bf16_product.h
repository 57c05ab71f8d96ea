// Products of bf16 matrices with an f32 result, by oneDNN, on processors that have instructions
// for them.
#pragma once
#include "tensor/kernel_args/linear.h"

namespace mullion::cpu {

// Whether this build has oneDNN and this machine the instructions: oneDNN would emulate them
// slowly.
bool has_bf16_products();

// One matrix of the batch of `args` (A f32, rounded here; B bf16), with its bias; `a`, `b`, `c`
// are that matrix's operands.
void bf16_product(const MatmulArgs& args, const float* a, const bf16* b, float* c);

}  // namespace mullion::cpu
