// Arguments of the matrix product and of the row lookups.
#pragma once
#include "tensor/dtype.h"

namespace mullion {

// For each of `batch`: C = alpha * op(A) op(B) + beta * C (+ bias in every row), row-major.
// op(A) is m x k, op(B) is k x n; a transposed operand is stored as k x m (A) or n x k (B). The
// epilogue adds a residual and applies GELU, which else were passes over C of their own.
//
// On the CPU C has the type of A: f32 or f64. B may be bf16 where A is f32 (a frozen weight): it is
// widened, or, with allow_bf16, A is rounded to bf16 as well where the machine has bf16 products.
// On a GPU each of the three is f32 or bf16. Where A is bf16 the product is one of bf16 (an f32
// operand is rounded) with sums in f32; where A is f32, so is C, and a bf16 B is treated as on the
// CPU.
struct MatmulArgs {
  const void *a, *b;
  void* c;
  const void* bias = nullptr;  // n values of C's type (f32 where that is bf16)
  DType a_type, b_type, c_type;
  int64_t batch = 1, m, n, k;
  bool transpose_a = false, transpose_b = false;
  int64_t lda, ldb, ldc;  // distance between stored rows
  // Distance between matrices of the batch; 0 shares one.
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;
  double alpha = 1, beta = 0;  // with beta 0, C's old elements are not read
  bool allow_bf16 = false;
  bool allow_tf32 = false;         // products of f32 by tensor cores, with 11 bits of each operand
  const void* residual = nullptr;  // lies as C does; beta is 0 beside it
  bool gelu = false;               // by the error function; in bf16 on a GPU by tanh
  void* before_gelu = nullptr;     // lies as C does: gets what GELU is applied to, or null
};

// One taller product where the matrices of A and C follow each other and share B.
inline MatmulArgs folded(MatmulArgs args) {
  if (args.batch > 1 && args.stride_b == 0 && !args.transpose_a &&
      args.stride_a == args.m * args.lda && args.stride_c == args.m * args.ldc) {
    args.m *= args.batch;
    args.batch = 1;
  }
  return args;
}

// y[i] = table[ids[i]], rows of `width`. The table may be bf16 where y is f32, and on a GPU f32
// where y is bf16. Ids are checked by the caller: 0 <= ids[i] < rows.
struct EmbeddingArgs {
  const void* table;
  DType table_type;
  const int64_t* ids;
  void* y;
  DType dtype;
  int64_t count, rows, width;
};
// dtable[r] = sum of g[i] over the i with ids[i] = r, in the order of i: deterministic.
struct EmbeddingBackwardArgs {
  const void* g;
  const int64_t* ids;
  void* dtable;
  DType dtype;
  int64_t count, rows, width;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_LINEAR_KERNELS(KERNEL)   \
  KERNEL(void, matmul, MatmulArgs)       \
  KERNEL(void, embedding, EmbeddingArgs) \
  KERNEL(void, embedding_backward, EmbeddingBackwardArgs)
