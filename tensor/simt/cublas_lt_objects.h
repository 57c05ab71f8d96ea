// What the handles of cuBLASLt stand for on the host.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/simt/include/cublasLt.h"

struct SimtBlasHandle {};
struct SimtMatrixLayout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t ld;
  cublasLtOrder_t order = CUBLASLT_ORDER_COL;
  int32_t batch = 1;
  int64_t stride = 0;

  int64_t at(int64_t row, int64_t column) const {
    return order == CUBLASLT_ORDER_COL ? row + column * ld : row * ld + column;
  }
  int64_t line() const {  // elements that lie together
    return static_cast<int64_t>(order == CUBLASLT_ORDER_COL ? rows : columns);
  }
  int64_t lines() const {
    return static_cast<int64_t>(order == CUBLASLT_ORDER_COL ? columns : rows);
  }
};
struct SimtMatmulDesc {
  cublasComputeType_t compute;
  cudaDataType scale;
  cublasOperation_t transpose_a = CUBLAS_OP_N, transpose_b = CUBLAS_OP_N;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  void *bias = nullptr, *aux = nullptr;
  int64_t bias_stride = 0, aux_ld = 0, aux_stride = 0;
  cudaDataType bias_type = static_cast<cudaDataType>(-1);  // not given: D's
  cudaDataType aux_type = static_cast<cudaDataType>(-1);
};
struct SimtMatmulPreference {
  size_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};
};
