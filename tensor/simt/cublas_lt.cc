// cuBLASLt's product on the host: D = epilogue(alpha op(A) op(B) + beta C), sums in f32.
#include "tensor/simt/cublas_lt_objects.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "tensor/simt/arithmetic.h"
#include "tensor/simt/candidates.h"
#include "tensor/simt/device_memory.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/fault_plan.h"
#include "tensor/simt/include/cuda_bf16.h"
#include "tensor/simt/streams.h"

namespace mullion::simt {
namespace {

std::vector<int> delays{0}, runs{0};  // of the candidates that are offered

constexpr auto kNoType = static_cast<cudaDataType>(-1);

int64_t size_of(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }
bool is_known(cudaDataType type) { return type == CUDA_R_32F || type == CUDA_R_16BF; }

float load(const void* base, cudaDataType type, int64_t i) {
  if (type == CUDA_R_32F) return static_cast<const float*>(base)[i];
  return static_cast<const __nv_bfloat16*>(base)[i];
}
void store(void* base, cudaDataType type, int64_t i, float value) {
  if (type == CUDA_R_32F)
    static_cast<float*>(base)[i] = value;
  else
    static_cast<__nv_bfloat16*>(base)[i] = value;
}

// Its matrices are ours to read or write, and as aligned as the heuristics were given.
void check_matrix(const char* name, const void* base, const SimtMatrixLayout& m,
                  uint32_t alignment) {
  const std::string call = concat("cublasLtMatmul: ", name);
  if (m.ld < m.line())
    report(concat(call, ": a leading dimension of ", m.ld, " for ", m.line(), " elements"));
  for (int32_t i = 0; i < (m.stride ? m.batch : 1); ++i) {
    const auto* first = static_cast<const unsigned char*>(base) + i * m.stride * size_of(m.type);
    const int64_t extent = (m.lines() - 1) * m.ld + m.line();
    check_device_range(call, first, static_cast<size_t>(extent * size_of(m.type)));
    if (device_alignment(first) % alignment != 0)
      report(concat(call, ": aligned to ", device_alignment(first), " bytes, and the heuristics ",
                    "were told ", alignment));
  }
}

// op(M) as rows x columns floats, row-major.
std::vector<float> dense(const void* base, const SimtMatrixLayout& m, bool transposed,
                         int32_t batch) {
  const auto rows = static_cast<int64_t>(transposed ? m.columns : m.rows);
  const auto columns = static_cast<int64_t>(transposed ? m.rows : m.columns);
  const auto* first = static_cast<const unsigned char*>(base) + batch * m.stride * size_of(m.type);
  std::vector<float> values(static_cast<size_t>(rows * columns));
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < columns; ++c)
      values[static_cast<size_t>(r * columns + c)] =
          load(first, m.type, transposed ? m.at(c, r) : m.at(r, c));
  return values;
}

// The tanh form, which cuBLASLt computes.
float gelu(float x) {
  return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
}
float gelu_slope(float x) {
  const float t = std::tanh(0.7978845608f * (x + 0.044715f * x * x * x));
  const float inner = 0.7978845608f * (1 + 3 * 0.044715f * x * x);
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * inner;
}

bool has(cublasLtEpilogue_t epilogue, int bits) { return (epilogue & bits) == bits; }

struct Product {
  SimtMatmulDesc desc;
  float alpha, beta;
  const void *a, *b, *c;
  void* d;
  SimtMatrixLayout al, bl, cl, dl;
  int64_t m, n, k;

  bool transposed_a() const { return desc.transpose_a == CUBLAS_OP_T; }
  bool transposed_b() const { return desc.transpose_b == CUBLAS_OP_T; }
  cudaDataType bias_type() const { return desc.bias_type == kNoType ? dl.type : desc.bias_type; }
  cudaDataType aux_type() const { return desc.aux_type == kNoType ? dl.type : desc.aux_type; }
  unsigned char* bias_of(int32_t i) const {
    return static_cast<unsigned char*>(desc.bias) + i * desc.bias_stride * size_of(bias_type());
  }
  unsigned char* aux_of(int32_t i) const {
    return static_cast<unsigned char*>(desc.aux) + i * desc.aux_stride * size_of(aux_type());
  }

  void check_epilogue() const {
    const bool bias = has(desc.epilogue, CUBLASLT_EPILOGUE_BIAS) || has(desc.epilogue, 16) ||
                      desc.epilogue >= CUBLASLT_EPILOGUE_BGRADA;
    const int64_t entries = desc.epilogue == CUBLASLT_EPILOGUE_BGRADB ? n : m;
    for (int32_t i = 0; i < dl.batch; ++i) {
      if (bias) {
        check_device_range("cublasLtMatmul: bias", bias_of(i),
                           static_cast<size_t>(entries * size_of(bias_type())));
        // Kernels that load 16 bytes of it at a time are chosen whatever its address is.
        if (device_alignment(bias_of(i)) % 16 != 0)
          report(concat("cublasLtMatmul: bias: aligned to ", device_alignment(bias_of(i)),
                        " bytes instead of 16"));
      }
      if (has(desc.epilogue, 128))
        check_device_range("cublasLtMatmul: aux", aux_of(i),
                           static_cast<size_t>(((n - 1) * desc.aux_ld + m) * size_of(aux_type())));
    }
  }

  void run(int32_t batch) const {
    const std::vector<float> va = dense(a, al, transposed_a(), batch);
    const std::vector<float> vb = dense(b, bl, transposed_b(), batch);
    std::vector<float> sum(static_cast<size_t>(m * n));
    if (device_arithmetic && uses_tensor_cores())
      sum_on_tensor_cores(va, vb, sum);
    else
      for (int64_t row = 0; row < m; ++row)
        for (int64_t i = 0; i < k; ++i) {
          const float x = va[static_cast<size_t>(row * k + i)];
          const float* y = vb.data() + i * n;
          float* s = sum.data() + row * n;
          for (int64_t column = 0; column < n; ++column) s[column] += x * y[column];
        }
    finish(sum, batch);
    if (desc.epilogue == CUBLASLT_EPILOGUE_BGRADA) sums_over_k(va, m, k, 1, batch);
    if (desc.epilogue == CUBLASLT_EPILOGUE_BGRADB) sums_over_k(vb, n, 1, n, batch);
  }

  // Products of f32 alone do not, unless TF32 is allowed.
  bool uses_tensor_cores() const {
    return al.type == CUDA_R_16BF || desc.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  }
  void sum_on_tensor_cores(std::vector<float> va, std::vector<float> vb,
                           std::vector<float>& sum) const {
    if (al.type != CUDA_R_16BF) {
      std::transform(va.begin(), va.end(), va.begin(), to_tf32);
      std::transform(vb.begin(), vb.end(), vb.begin(), to_tf32);
    }
    for (int64_t row = 0; row < m; ++row)
      for (int64_t column = 0; column < n; ++column)
        sum[static_cast<size_t>(row * n + column)] =
            sum_of_tensor_core(0, va.data() + row * k, vb.data() + column, n, k);
  }

  void finish(const std::vector<float>& sum, int32_t batch) const {
    const auto* cs = static_cast<const unsigned char*>(c) + batch * cl.stride * size_of(cl.type);
    auto* ds = static_cast<unsigned char*>(d) + batch * dl.stride * size_of(dl.type);
    std::vector<float> row_sums(static_cast<size_t>(m));
    for (int64_t row = 0; row < m; ++row)
      for (int64_t column = 0; column < n; ++column) {
        float x = alpha * sum[static_cast<size_t>(row * n + column)];
        if (beta != 0) x += beta * load(cs, cl.type, cl.at(row, column));
        x = epilogue(x, row, column, batch);
        row_sums[static_cast<size_t>(row)] += x;
        store(ds, dl.type, dl.at(row, column), x);
      }
    if (desc.epilogue != CUBLASLT_EPILOGUE_DGELU_BGRAD) return;
    for (int64_t row = 0; row < m; ++row)
      store(bias_of(batch), bias_type(), row, row_sums[static_cast<size_t>(row)]);
  }

  float epilogue(float x, int64_t row, int64_t column, int32_t batch) const {
    const cublasLtEpilogue_t e = desc.epilogue;
    const int64_t place = row + column * desc.aux_ld;
    if (has(e, CUBLASLT_EPILOGUE_BIAS)) x += load(bias_of(batch), bias_type(), row);
    if (has(e, CUBLASLT_EPILOGUE_DGELU)) x *= gelu_slope(load(aux_of(batch), aux_type(), place));
    if (has(e, CUBLASLT_EPILOGUE_GELU_AUX)) store(aux_of(batch), aux_type(), place, x);
    if (has(e, CUBLASLT_EPILOGUE_GELU)) x = gelu(x);
    if (has(e, CUBLASLT_EPILOGUE_RELU)) x = std::fmax(x, 0.0f);
    return x;
  }

  void sums_over_k(const std::vector<float>& values, int64_t entries, int64_t stride, int64_t step,
                   int32_t batch) const {
    for (int64_t i = 0; i < entries; ++i) {
      float total = 0;
      for (int64_t j = 0; j < k; ++j) total += values[static_cast<size_t>(i * stride + j * step)];
      store(bias_of(batch), bias_type(), i, total);
    }
  }
};

// What cuBLASLt has algorithms for, of what is emulated.
bool is_supported(const SimtMatmulDesc& desc, const SimtMatrixLayout& a, const SimtMatrixLayout& b,
                  const SimtMatrixLayout& c, const SimtMatrixLayout& d) {
  const bool types = is_known(a.type) && a.type == b.type && c.type == d.type && is_known(d.type) &&
                     (a.type == CUDA_R_16BF || d.type == CUDA_R_32F);
  const bool orders = d.order == CUBLASLT_ORDER_COL || desc.epilogue == CUBLASLT_EPILOGUE_DEFAULT;
  return types && orders && desc.scale == CUDA_R_32F && a.batch == d.batch && b.batch == d.batch &&
         c.batch == d.batch && c.order == d.order && c.rows == d.rows && c.columns == d.columns;
}

// GELU keeps its input, or reads it again, in lines of a multiple of 8 elements.
bool aux_fits(const SimtMatmulDesc& desc, const SimtMatrixLayout& d) {
  if (!has(desc.epilogue, 128)) return true;
  return desc.aux_ld % 8 == 0 && desc.aux_ld >= static_cast<int64_t>(d.rows) &&
         device_alignment(desc.aux) % 16 == 0;
}

bool sizes_fit(const SimtMatmulDesc& desc, const SimtMatrixLayout& a, const SimtMatrixLayout& b,
               const SimtMatrixLayout& d) {
  const bool ta = desc.transpose_a == CUBLAS_OP_T, tb = desc.transpose_b == CUBLAS_OP_T;
  return (ta ? a.columns : a.rows) == d.rows && (tb ? b.rows : b.columns) == d.columns &&
         (ta ? a.rows : a.columns) == (tb ? b.columns : b.rows) && d.rows > 0 && d.columns > 0 &&
         a.rows > 0 && a.columns > 0;
}

}  // namespace

void offer_candidates(std::vector<int> milliseconds) {
  delays = std::move(milliseconds);
  runs.assign(delays.size(), 0);
}
std::vector<int> candidate_runs() { return runs; }

}  // namespace mullion::simt

using namespace mullion::simt;

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  if (planned_fault("cublasLtCreate")) return CUBLAS_STATUS_NOT_INITIALIZED;
  *handle = new SimtBlasHandle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
size_t cublasLtGetVersion() { return 130000; }

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t* results,
                                              int* found) {
  *found = 0;
  if (!handle || requested < 1 || !sizes_fit(*desc, *a, *b, *d)) return CUBLAS_STATUS_INVALID_VALUE;
  if (planned_fault("cublasLtMatmulAlgoGetHeuristic") || !is_supported(*desc, *a, *b, *c, *d))
    return CUBLAS_STATUS_NOT_SUPPORTED;
  *found = std::min(requested, static_cast<int>(mullion::simt::delays.size()));
  for (int i = 0; i < *found; ++i) {
    results[i] = {};
    std::copy_n(preference->alignment, 4, results[i].algo.alignment);
    results[i].workspaceSize = results[i].algo.workspace =
        std::min<size_t>(preference->workspace, 4 << 10);  // so that a missing workspace shows
    results[i].algo.number = i;
    results[i].state = CUBLAS_STATUS_SUCCESS;
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, const void* alpha,
                              const void* a, cublasLtMatrixLayout_t al, const void* b,
                              cublasLtMatrixLayout_t bl, const void* beta, const void* c,
                              cublasLtMatrixLayout_t cl, void* d, cublasLtMatrixLayout_t dl,
                              const cublasLtMatmulAlgo_t* algo, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  if (planned_fault("cublasLtMatmul")) return CUBLAS_STATUS_EXECUTION_FAILED;
  if (!handle || !sizes_fit(*desc, *al, *bl, *dl) || !aux_fits(*desc, *dl))
    return CUBLAS_STATUS_INVALID_VALUE;
  if (!is_supported(*desc, *al, *bl, *cl, *dl)) return CUBLAS_STATUS_NOT_SUPPORTED;
  if (algo && workspace_bytes < algo->workspace) return CUBLAS_STATUS_INVALID_VALUE;
  const auto number = static_cast<size_t>(algo ? algo->number : 0);
  const int delay = number < mullion::simt::delays.size() ? mullion::simt::delays[number] : 0;
  if (delay < 0) return CUBLAS_STATUS_NOT_SUPPORTED;
  const uint32_t promised[4] = {1, 1, 1, 1};
  const uint32_t* alignment = algo ? algo->alignment : promised;
  float scales[2];
  std::memcpy(&scales[0], alpha, sizeof(float));
  std::memcpy(&scales[1], beta, sizeof(float));
  check_matrix("A", a, *al, alignment[0]);
  check_matrix("B", b, *bl, alignment[1]);
  if (scales[1] != 0) check_matrix("C", c, *cl, alignment[2]);
  check_matrix("D", d, *dl, alignment[3]);
  const bool transposed = desc->transpose_a == CUBLAS_OP_T;
  const Product product{*desc,
                        scales[0],
                        scales[1],
                        a,
                        b,
                        c,
                        d,
                        *al,
                        *bl,
                        *cl,
                        *dl,
                        static_cast<int64_t>(dl->rows),
                        static_cast<int64_t>(dl->columns),
                        static_cast<int64_t>(transposed ? al->rows : al->columns)};
  product.check_epilogue();
  const size_t used = algo ? algo->workspace : 0;
  Uses uses = {{a, false}, {b, false}, {d, true}, {workspace, true}};
  if (scales[1] != 0) uses.push_back({c, false});
  if (desc->bias) uses.push_back({desc->bias, desc->epilogue >= CUBLASLT_EPILOGUE_DGELU_BGRAD});
  if (desc->aux) uses.push_back({desc->aux, desc->epilogue < CUBLASLT_EPILOGUE_DGELU});
  enqueue(stream, "cublasLtMatmul", uses, [=] {
    check_device_range("cublasLtMatmul: workspace", workspace, workspace_bytes);
    if (used) std::memset(workspace, 0xff, used);
    std::this_thread::sleep_for(std::chrono::milliseconds(delay));
    if (number < mullion::simt::runs.size()) ++mullion::simt::runs[number];
    count_run(product.dl.batch > 1 ? "product of batches" : "product");
    for (int32_t i = 0; i < product.dl.batch; ++i) product.run(i);
  });
  return CUBLAS_STATUS_SUCCESS;
}
