// f16 by way of half.h.
#include "tensor/dtype.h"

#include "tensor/half.h"

namespace mullion {

f16::f16(float f) : bits(half_of_float(f)) {}
f16::operator float() const { return float_of_half(bits); }

}  // namespace mullion
