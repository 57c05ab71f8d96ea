// cuBLASLt's emulation against the definition of a product, element by element.
#include <cublasLt.h>

#include <cmath>

#include "tests/simt/device_array.h"

namespace mullion::simt {
namespace {

std::vector<float> spread(size_t n, unsigned seed) {
  std::vector<float> values(n);
  for (float& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<float>(seed >> 16) / 32768 - 1;
  }
  return values;
}

// One product of m x n x k, `batch` times, column-major, with its objects.
struct Call {
  int m = 5, n = 7, k = 9, batch = 1;
  bool transpose_a = false, transpose_b = false;
  cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_DEFAULT;
  float alpha = 1, beta = 0;
  std::vector<float> a = spread(static_cast<size_t>(5 * 9 * 2), 1), b = spread(7 * 9 * 2, 2),
                     d = spread(5 * 7 * 2, 3), bias = spread(5, 4), aux = spread(8 * 7, 5);
  uint32_t alignment = 4;
  int64_t aux_ld = 8;
  int offset = 0;  // of A's first element

  static cublasLtMatrixLayout_t layout(int rows, int columns, int batch) {
    cublasLtMatrixLayout_t l;
    cublasLtMatrixLayoutCreate(&l, CUDA_R_32F, static_cast<uint64_t>(rows),
                               static_cast<uint64_t>(columns), rows);
    const int32_t count = batch;
    const int64_t stride = int64_t{rows} * columns;
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count);
    cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                     sizeof stride);
    return l;
  }

  cublasStatus_t run() {
    DeviceArray<float> da(a), db(b), dd(d), dbias(bias), daux(aux);
    cublasLtHandle_t handle;
    cublasLtCreate(&handle);
    cublasLtMatmulDesc_t desc;
    cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    const cublasOperation_t ops[2] = {transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N,
                                      transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N};
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &ops[0], sizeof ops[0]);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSB, &ops[1], sizeof ops[1]);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue, sizeof epilogue);
    const float* pointers[2] = {dbias.data(), daux.data()};
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &pointers[0],
                                   sizeof pointers[0]);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, &pointers[1],
                                   sizeof pointers[1]);
    cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, &aux_ld,
                                   sizeof aux_ld);
    cublasLtMatrixLayout_t la = transpose_a ? layout(k, m, batch) : layout(m, k, batch);
    cublasLtMatrixLayout_t lb = transpose_b ? layout(n, k, batch) : layout(k, n, batch);
    cublasLtMatrixLayout_t ld = layout(m, n, batch);
    cublasLtMatmulPreference_t preference;
    cublasLtMatmulPreferenceCreate(&preference);
    for (const auto which :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
      cublasLtMatmulPreferenceSetAttribute(preference, which, &alignment, sizeof alignment);
    cublasLtMatmulHeuristicResult_t result;
    int found = 0;
    cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(handle, desc, la, lb, ld, ld, preference,
                                                           1, &result, &found);
    if (status == CUBLAS_STATUS_SUCCESS)
      status = cublasLtMatmul(handle, desc, &alpha, da.data() + offset, la, db.data(), lb, &beta,
                              dd.data(), ld, dd.data(), ld, &result.algo, nullptr, 0, nullptr);
    d = dd.values();
    bias = dbias.values();
    aux = daux.values();
    cublasLtMatmulPreferenceDestroy(preference);
    for (const auto l : {la, lb, ld}) cublasLtMatrixLayoutDestroy(l);
    cublasLtMatmulDescDestroy(desc);
    cublasLtDestroy(handle);
    return status;
  }

  float product(int row, int column, int i) const {
    float sum = 0;
    for (int j = 0; j < k; ++j)
      sum += a[static_cast<size_t>(i * m * k + (transpose_a ? row * k + j : j * m + row))] *
             b[static_cast<size_t>(i * k * n + (transpose_b ? j * n + column : column * k + j))];
    return sum;
  }
};

TEST(SimtCublasLt, TransposesScalesAndBatches) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true}) {
      Call call;
      call.transpose_a = ta;
      call.transpose_b = tb;
      call.batch = 2;
      call.alpha = 0.5f;
      call.beta = 2;
      const std::vector<float> before = call.d;
      ASSERT_EQ(call.run(), CUBLAS_STATUS_SUCCESS);
      for (int i = 0; i < 2; ++i)
        for (int row = 0; row < 5; ++row)
          for (int column = 0; column < 7; ++column) {
            const auto at = static_cast<size_t>(i * 35 + column * 5 + row);
            ASSERT_NEAR(call.d[at], 0.5f * call.product(row, column, i) + 2 * before[at], 1e-5);
          }
    }
}

TEST(SimtCublasLt, EpiloguesOfTheForwardPass) {
  Call call;
  call.epilogue = CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
  ASSERT_EQ(call.run(), CUBLAS_STATUS_SUCCESS);
  for (int row = 0; row < 5; ++row)
    for (int column = 0; column < 7; ++column) {
      const double x = call.product(row, column, 0) + call.bias[static_cast<size_t>(row)];
      const auto at = static_cast<size_t>(column * 5 + row);
      EXPECT_NEAR(call.aux[static_cast<size_t>(column * 8 + row)], x, 1e-5);
      const double inner = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
      EXPECT_NEAR(call.d[at], 0.5 * x * (1 + std::tanh(inner)), 1e-5);
    }
}

TEST(SimtCublasLt, EpiloguesOfTheBackwardPass) {
  Call call;
  call.epilogue = CUBLASLT_EPILOGUE_DGELU_BGRAD;
  const auto gelu = [](double x) {
    return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
  };
  ASSERT_EQ(call.run(), CUBLAS_STATUS_SUCCESS);
  for (int row = 0; row < 5; ++row) {
    float sum = 0;
    for (int column = 0; column < 7; ++column) {
      const auto at = static_cast<size_t>(column * 5 + row);
      const double x = call.aux[static_cast<size_t>(column * 8 + row)],
                   slope = (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5;
      EXPECT_NEAR(call.d[at], call.product(row, column, 0) * slope, 1e-5);
      sum += call.d[at];
    }
    EXPECT_NEAR(call.bias[static_cast<size_t>(row)], sum, 1e-5);
  }
}

TEST(SimtCublasLt, RefusesLinesThatGeluCannotKeep) {
  Call call;
  call.epilogue = CUBLASLT_EPILOGUE_GELU_AUX;
  call.aux_ld = 5;
  EXPECT_EQ(call.run(), CUBLAS_STATUS_INVALID_VALUE);
}

TEST(SimtCublasLt, ReportsWhatTheLibraryLeavesToTheCaller) {
  Call misaligned;
  misaligned.alignment = 16;
  misaligned.offset = 1;
  EXPECT_EQ(finding_of([&] { misaligned.run(); }),
            "cublasLtMatmul: A: aligned to 4 bytes, and the heuristics were told 16");
  Call outside;
  outside.offset = 46;  // the last of A's 90 elements would be number 91
  const auto finding = finding_of([&] { outside.run(); });
  EXPECT_NE(finding.find("cublasLtMatmul: A: 180 bytes at an address that is byte 184"),
            std::string::npos)
      << finding;
}

}  // namespace
}  // namespace mullion::simt
