// The rungs of docs/kernels.md that no model uses: each computes what the next one computes, by one
// idea less. The last rungs are the kernels of tensor/cuda.
#pragma once
#include <cstdint>

#include "tensor/kernel_args/norm.h"

namespace mullion::ladder {

// RMSNorm's forward (rms_norm.cu); f32 and bf16.
void rms_norm_thread_a_row(const RmsNormArgs& args);
void rms_norm_warp_a_row(const RmsNormArgs& args);
void rms_norm_block_a_row(const RmsNormArgs& args);  // width a multiple of 8, aligned to 16

// C = gelu(A W^T + bias) in bf16 with sums in f32 (product.cu): A is m x k, W n x k, C m x n, all
// without gaps; bias is n floats.
struct ProductArgs {
  const void *a, *w;
  const float* bias;
  void* c;
  int64_t m, n, k;
};
void product_thread_an_element(const ProductArgs& args);
void product_shared_tiles(const ProductArgs& args);
void product_tensor_cores(const ProductArgs& args);  // k a multiple of 8, aligned to 16

}  // namespace mullion::ladder
