// The CPU's kernel table.
#include "tensor/cpu/kernels.h"

namespace mullion::cpu {

MULLION_DEFINE_TABLE

}  // namespace mullion::cpu
