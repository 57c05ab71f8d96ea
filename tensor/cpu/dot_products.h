// Products of thin matrices, where packing the operands costs more than the product: row vectors
// times a wide matrix (decoding) and few columns (LoRA).
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace mullion::cpu {

// c[i, j] = alpha * (a[i] . b[j]) + beta * c[i, j] + bias[j] for rows a[i] (m of them) and b[j]
// (n of them) of k elements. With beta 0 the old c is not read; bias may be null.
template <typename B>
struct DotProducts {
  int64_t m, n, k;
  const float* a;
  int64_t lda;
  const B* b;
  int64_t ldb;
  float* c;
  int64_t ldc;
  float alpha, beta;
  const float* bias;
};

void dot_products(const DotProducts<float>&);
void dot_products(const DotProducts<bf16>&);

}  // namespace mullion::cpu
