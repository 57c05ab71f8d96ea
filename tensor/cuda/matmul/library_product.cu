// Matrix products by cuBLASLt, which is column-major: the transposed product C^T = op(B)^T op(A)^T
// is asked for, so that the rows of every matrix here are its columns and n comes before m. What
// the library holds for best for a shape is kept, or with MULLION_CUDA_PRODUCTS=timed the fastest
// of the five that it names first. Times differ from run to run, and so may that choice, and with
// it the order of sums: only the library's own choice gives the same bits at every run.
#include "tensor/cuda/matmul/library_product.h"

#include <cublasLt.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "tensor/cuda/matmul/fastest.h"
#include "tensor/cuda/runtime/graph.h"
#include "tensor/cuda/runtime/launch.h"
#include "tensor/cuda/runtime/runtime.h"
#include "tensor/op_scope.h"

namespace mullion::cuda {
namespace {

constexpr int64_t kWorkspace = 32 << 20;  // what cuBLAS asks for on Hopper
constexpr int kCandidates = 5;            // where the fastest is asked for

void check_lt(cublasStatus_t status, const char* call, const MatmulArgs& p) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail(Fault::memory, OpScope::prefix(), "cuda: ", call, " failed (cuBLAS status ",
       static_cast<int>(status), ") for m ", p.m, ", n ", p.n, ", k ", p.k, ", batch ", p.batch,
       ", types ", name_of(p.a_type), " ", name_of(p.b_type), " ", name_of(p.c_type));
}

cudaDataType_t type_of(DType type) { return type == DType::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

// The largest power of two, up to 256, that divides an address, and that of every matrix of a
// batch.
uint32_t alignment_of(uintptr_t address) {
  const uintptr_t bits = address | 256u;
  return static_cast<uint32_t>(bits & (~bits + 1));
}
uint32_t alignment_of(const void* p) { return alignment_of(reinterpret_cast<uintptr_t>(p)); }
uint32_t alignment_of(const void* p, const MatmulArgs& args, int64_t stride, DType type) {
  const int64_t between = args.batch > 1 ? stride * size_of(type) : 0;
  return alignment_of(reinterpret_cast<uintptr_t>(p) | static_cast<uintptr_t>(between));
}
uint32_t alignment_of_a(const MatmulArgs& p) { return alignment_of(p.a, p, p.stride_a, p.a_type); }
uint32_t alignment_of_b(const MatmulArgs& p) { return alignment_of(p.b, p, p.stride_b, p.b_type); }
uint32_t alignment_of_c(const MatmulArgs& p) { return alignment_of(p.c, p, p.stride_c, p.c_type); }

// The library computes D = alpha op(A) op(B) + beta C, and D is our C: its C is D itself or the
// residual.
const void* added_to(const MatmulArgs& p) { return p.residual ? p.residual : p.c; }
double beta_of(const MatmulArgs& p) { return p.residual ? 1 : p.beta; }
uint32_t alignment_of_added(const MatmulArgs& p) {
  return alignment_of(added_to(p), p, p.stride_c, p.c_type);
}

// All that decides which algorithm is best. Numbers alone, so that it can be a key.
using Key = std::array<int64_t, 25>;
Key key_of(const MatmulArgs& p) {
  return {static_cast<int64_t>(p.a_type),
          static_cast<int64_t>(p.b_type),
          static_cast<int64_t>(p.c_type),
          p.batch,
          p.m,
          p.n,
          p.k,
          p.transpose_a,
          p.transpose_b,
          p.lda,
          p.ldb,
          p.ldc,
          p.stride_a,
          p.stride_b,
          p.stride_c,
          p.bias ? alignment_of(p.bias) : 0,
          p.allow_tf32,
          beta_of(p) != 0,
          p.gelu,
          p.before_gelu ? alignment_of(p.before_gelu) : 0,
          alignment_of_a(p),
          alignment_of_b(p),
          alignment_of_c(p),
          alignment_of_added(p),
          current_device()};
}

// The descriptions of one product, and how it is computed.
struct Plan {
  bool exists = true;  // whether the library has it
  cublasLtMatmulDesc_t product = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  // Which of them is fastest is not known yet.
  std::array<cublasLtMatmulAlgo_t, kCandidates> candidates{};
  int n_candidates = 0;
};

// A matrix of `rows` stored rows.
cublasLtMatrixLayout_t layout(const MatmulArgs& p, DType type, int64_t rows, int64_t columns,
                              int64_t ld, int64_t stride) {
  cublasLtMatrixLayout_t result = nullptr;
  check_lt(cublasLtMatrixLayoutCreate(&result, type_of(type), static_cast<uint64_t>(columns),
                                      static_cast<uint64_t>(rows), ld),
           "cublasLtMatrixLayoutCreate", p);
  const auto batch = static_cast<int32_t>(p.batch);
  if (batch == 1) return result;
  check_lt(cublasLtMatrixLayoutSetAttribute(result, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                            sizeof batch),
           "BATCH_COUNT", p);
  check_lt(cublasLtMatrixLayoutSetAttribute(result, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                                            &stride, sizeof stride),
           "STRIDED_BATCH_OFFSET", p);
  return result;
}

template <typename T>
void set(cublasLtMatmulDesc_t product, cublasLtMatmulDescAttributes_t attribute, const T& value,
         const MatmulArgs& p) {
  check_lt(cublasLtMatmulDescSetAttribute(product, attribute, &value, sizeof value),
           "cublasLtMatmulDescSetAttribute", p);
}
template <typename T>
void set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute,
         const T& value, const MatmulArgs& p) {
  check_lt(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value),
           "cublasLtMatmulPreferenceSetAttribute", p);
}

// MULLION_CUDA_PRODUCTS=library|timed; asked for each new shape.
bool products_are_timed() {
  const char* const value = std::getenv("MULLION_CUDA_PRODUCTS");
  const std::string how = value ? value : "library";
  CHECK_AS(Fault::usage, how == "library" || how == "timed", "MULLION_CUDA_PRODUCTS=", how,
           ": expected library or timed");
  return how == "timed";
}

void choose_algorithm(cublasLtHandle_t handle, Plan& plan, const MatmulArgs& p) {
  cublasLtMatmulPreference_t preference = nullptr;
  check_lt(cublasLtMatmulPreferenceCreate(&preference), "cublasLtMatmulPreferenceCreate", p);
  set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(kWorkspace), p);
  // Views begin anywhere: the library assumes 256 bytes unless it is told. A and B change places.
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of_b(p), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of_a(p), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of_added(p), p);
  set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of_c(p), p);
  cublasLtMatmulHeuristicResult_t found[kCandidates] = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, plan.product, plan.b, plan.a, plan.c, plan.c, preference,
      products_are_timed() ? kCandidates : 1, found, &count);
  cublasLtMatmulPreferenceDestroy(preference);
  plan.exists = status == CUBLAS_STATUS_SUCCESS && count > 0;
  const bool none =
      status == CUBLAS_STATUS_NOT_SUPPORTED || (status == CUBLAS_STATUS_SUCCESS && count == 0);
  if (none && (p.bias || p.residual || p.gelu)) return;
  check_lt(none ? CUBLAS_STATUS_NOT_SUPPORTED : status, "cublasLtMatmulAlgoGetHeuristic", p);
  plan.algorithm = found[0].algo;
  for (int i = 0; i < count && count > 1; ++i)
    if (found[i].state == CUBLAS_STATUS_SUCCESS)
      plan.candidates[plan.n_candidates++] = found[i].algo;
}

cublasLtEpilogue_t epilogue_of(const MatmulArgs& p) {
  if (p.gelu && p.before_gelu)
    return p.bias ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
  if (p.gelu) return p.bias ? CUBLASLT_EPILOGUE_GELU_BIAS : CUBLASLT_EPILOGUE_GELU;
  return p.bias ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

void set_pointers(cublasLtMatmulDesc_t product, const MatmulArgs& p) {
  if (p.bias) set(product, CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias, p);
  if (p.before_gelu) set(product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.before_gelu, p);
}

Plan make_plan(cublasLtHandle_t handle, const MatmulArgs& p) {
  Plan plan;
  const cublasComputeType_t compute =
      p.allow_tf32 && p.a_type == DType::f32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
  check_lt(cublasLtMatmulDescCreate(&plan.product, compute, CUDA_R_32F), "cublasLtMatmulDescCreate",
           p);
  const cublasOperation_t of_a = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
  const cublasOperation_t of_b = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSA, of_b, p);
  set(plan.product, CUBLASLT_MATMUL_DESC_TRANSB, of_a, p);
  set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p), p);
  if (p.bias)
    set(plan.product, CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, static_cast<int32_t>(type_of(p.c_type)),
        p);
  if (p.before_gelu) set(plan.product, CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.ldc, p);
  set_pointers(plan.product, p);
  plan.a =
      layout(p, p.a_type, p.transpose_a ? p.k : p.m, p.transpose_a ? p.m : p.k, p.lda, p.stride_a);
  plan.b =
      layout(p, p.b_type, p.transpose_b ? p.n : p.k, p.transpose_b ? p.k : p.n, p.ldb, p.stride_b);
  plan.c = layout(p, p.c_type, p.m, p.n, p.ldc, p.stride_c);
  choose_algorithm(handle, plan, p);
  return plan;
}

// nvcc takes `new Storage(scratch(n))` for a copy; a member it initialises in place.
struct Workspace {
  Storage memory;
};

// The library's handle and workspace on one device, and the plans of all products so far. Never
// destroyed: the library may be gone when static objects are.
struct Products {
  std::mutex mutex;
  std::map<Key, Plan> plans;
  std::map<int, cublasLtHandle_t> handles;
  std::map<int, std::unique_ptr<Workspace>> workspaces;
};
Products& products() {
  static auto* the_products = new Products;
  return *the_products;
}

cublasStatus_t run(cublasLtHandle_t handle, const Plan& plan, const cublasLtMatmulAlgo_t& algorithm,
                   const Storage& workspace, const MatmulArgs& p, void* result) {
  const auto alpha = static_cast<float>(p.alpha), beta = static_cast<float>(beta_of(p));
  return cublasLtMatmul(handle, plan.product, &alpha, p.b, plan.b, p.a, plan.a, &beta, added_to(p),
                        plan.c, result, plan.c, &algorithm, workspace.data(),
                        static_cast<size_t>(kWorkspace), current_stream());
}

// Takes the fastest candidate for good. Where the product adds to what lies in its result, the
// trials write elsewhere; where there is no memory for that, the library's first stays.
void choose_fastest(cublasLtHandle_t handle, Plan& plan, const Storage& workspace,
                    const MatmulArgs& p) {
  constexpr int64_t kMostScratch = 256 << 20;
  const int count = std::exchange(plan.n_candidates, 0);
  std::unique_ptr<Workspace> elsewhere;
  if (beta_of(p) != 0) {
    const int64_t elements = (p.batch - 1) * p.stride_c + (p.m - 1) * p.ldc + p.n;
    if (elements * size_of(p.c_type) > kMostScratch) return;
    try {
      elsewhere.reset(new Workspace{scratch(elements * size_of(p.c_type))});
    } catch (const Error& error) {
      if (error.fault() != Fault::memory) throw;
      return;
    }
  }
  void* const result = elsewhere ? elsewhere->memory.data() : p.c;
  const int best = fastest_of(count, [&](int i) {
    return run(handle, plan, plan.candidates[i], workspace, p, result) == CUBLAS_STATUS_SUCCESS;
  });
  plan.algorithm = plan.candidates[best];
}

}  // namespace

bool library_product(const MatmulArgs& p) {
  DCHECK(reinterpret_cast<uintptr_t>(p.bias) % 16 == 0);
  Products& all = products();
  std::lock_guard lock(all.mutex);
  cublasLtHandle_t& handle = all.handles[current_device()];
  if (!handle) check_lt(cublasLtCreate(&handle), "cublasLtCreate", p);
  std::unique_ptr<Workspace>& workspace = all.workspaces[current_device()];
  if (!workspace) workspace.reset(new Workspace{scratch(kWorkspace)});
  const Key key = key_of(p);
  auto found = all.plans.find(key);
  if (found == all.plans.end()) found = all.plans.emplace(key, make_plan(handle, p)).first;
  Plan& plan = found->second;
  if (!plan.exists) return false;
  set_pointers(plan.product, p);
  // A recorded step cannot be timed; a later one is.
  if (plan.n_candidates > 0 && !is_recording()) choose_fastest(handle, plan, workspace->memory, p);
  check_lt(run(handle, plan, plan.algorithm, workspace->memory, p, p.c), "cublasLtMatmul", p);
  launched("matmul");
  return true;
}

}  // namespace mullion::cuda
