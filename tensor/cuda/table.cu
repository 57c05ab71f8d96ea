// CUDA's kernel table.
#include "tensor/cuda/kernels.h"

namespace mullion::cuda {

MULLION_DEFINE_TABLE

}  // namespace mullion::cuda
