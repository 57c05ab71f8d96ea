// Initial values. Each parameter has its own random stream, named by its checkpoint name, so a
// value does not depend on which other parameters a model has.
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace mullion::init {

uint64_t stream_of(const std::string& name);  // FNV-1a of the name
void constant(Tensor& t, double value);
void normal(Tensor& t, double deviation, uint64_t seed, uint64_t stream);
// Normal, cut at two deviations (values beyond are folded back inside), as vision transformers use.
void truncated_normal(Tensor& t, double deviation, uint64_t seed, uint64_t stream);
void uniform(Tensor& t, double bound, uint64_t seed, uint64_t stream);  // in [-bound, bound)
// Kaiming-uniform with a = sqrt(5) (He et al. 2015; PyTorch's default): bound 1 / sqrt(fan in), the
// product of all axes but the first.
void kaiming_uniform(Tensor& t, uint64_t seed, uint64_t stream);

}  // namespace mullion::init
