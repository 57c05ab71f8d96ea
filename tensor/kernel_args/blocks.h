// Arguments of products with matrices of blocks (tensor/block_matrix.h), and of their rows.
#pragma once
#include "tensor/dtype.h"
#include "tensor/io/stored_type.h"

namespace mullion {

// At most so many rows of x are a product of few rows: on a GPU, and of the CPU's rounded ones.
constexpr int64_t kFewBlockRows = 8;

// y = alpha x W^T + beta y + bias + residual for W of `rows` x `width`, x (m, width), y (m, rows);
// backward: y = alpha x W + beta y, x (m, rows), y (m, width). All contiguous.
//
// On the CPU f32, or f64 for gradient checks; on a GPU f32 or bf16. Where rounded_products.h allows
// it x is rounded forward, to 8 bits with a scale for each 32 elements, and multiplied as integers
// (f64 never); all other products take W's exact values, on a GPU as the type of x holds them.
struct BlockMatmulArgs {
  const void* x;
  const void* blocks;
  void* y;
  const void* bias = nullptr;      // `rows` values of y's type (f32 where that is bf16)
  const void* residual = nullptr;  // lies as y does; beta is 0 beside it
  StoredType type;
  DType dtype;
  int64_t m, rows, width;
  bool backward = false;
  double alpha = 1, beta = 0;  // with beta 0, y's old elements are not read
  bool allow_tf32 = false;
};

// y[i] = the row ids[i] of W in y's type (f32; f64 on the CPU, bf16 on a GPU). Ids are checked by
// the caller: 0 <= ids[i] < rows.
struct BlockRowsArgs {
  const void* blocks;
  const int64_t* ids;
  void* y;
  StoredType type;
  DType dtype;
  int64_t count, rows, width;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_BLOCK_KERNELS(KERNEL)         \
  KERNEL(void, block_matmul, BlockMatmulArgs) \
  KERNEL(void, block_rows, BlockRowsArgs)
