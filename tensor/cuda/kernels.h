// CUDA's kernels: one function, in the file of its family, for each of tensor/kernel_table.h. They
// run on the current device and stream (runtime.h); every element type is f32 or bf16 unless the
// file says more.
#pragma once
#include "tensor/kernel_table.h"

namespace mullion::cuda {

MULLION_DECLARE_KERNELS

}  // namespace mullion::cuda
