// The CPU's kernels: one function, in the file of its family, for each of tensor/kernel_table.h.
#pragma once
#include "tensor/kernel_table.h"

namespace mullion::cpu {

MULLION_DECLARE_KERNELS

}  // namespace mullion::cpu
