// The second rung on the CPU (docs/kernels.md): the reference's loops in f32, the rows of the
// result handed out to the threads, the innermost loop over neighbouring elements. Nothing is
// blocked for a cache and nothing is kept in registers from one row to the next.
#pragma once
#include <cstdint>

#include "tensor/kernel_args/attention.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/kernel_args/norm.h"

namespace mullion::ladder {

// C = gelu(A W^T + bias): A is m x k, W n x k.
void simple_product(const float* a, const float* w, const float* bias, float* c, int64_t m,
                    int64_t n, int64_t k);
void simple_rms_norm(const RmsNormArgs& args);
// Every pair of tokens asks visible(); lse is not written.
void simple_attention(const AttentionForwardArgs& args);
// Without shift, pooled keys and dropout.
void simple_msa_conv(const MsaConvArgs& args);

}  // namespace mullion::ladder
