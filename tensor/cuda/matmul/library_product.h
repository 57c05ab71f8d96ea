// The product of two matrices as cuBLASLt computes it.
#pragma once
#include "tensor/kernel_args/linear.h"

namespace mullion::cuda {

// C = alpha op(A) op(B) + beta C, or + the residual, then + bias and GELU where `args` has them, on
// the current stream. Sizes are above 0; A and B are of one type, f32 or bf16, C of f32 or theirs,
// and the bias is of C's type, at a multiple of 16 bytes. False, and nothing is queued, where the
// library has no such product with what is added; Error (Fault::memory) where it has none without.
bool library_product(const MatmulArgs& args);

}  // namespace mullion::cuda
