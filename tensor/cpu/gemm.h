// One matrix product C = alpha op(A) op(B) + beta C, row-major, on all threads (on the calling one
// inside a parallel loop), through the library that is switched on.
#pragma once
#include <cstdint>

namespace mullion::cpu {

template <typename T>
struct Gemm {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  T alpha;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  T beta;
  T* c;
  int64_t ldc;
};

void gemm(const Gemm<float>&);
void gemm(const Gemm<double>&);

}  // namespace mullion::cpu
