// The functions of <cublasLt.h> that products use: each finds itself in the library when it is
// first called. Under the emulator, which has its own, this file is empty.
#ifndef MULLION_SIMT
#include <cublasLt.h>

#include "tensor/check.h"
#include "tensor/cuda/runtime/shared_library.h"

#ifndef MULLION_CUBLASLT_FOLDER
#define MULLION_CUBLASLT_FOLDER ""  // compiled without CMake: the loader alone finds the library
#endif

namespace mullion::cuda {
namespace {

constexpr char kNeededBy[] = "matmul: products on cuda";

void* function(const char* name) {
  static void* const library = open_library(kNeededBy, concat("libcublasLt.so.", CUBLAS_VER_MAJOR),
                                            MULLION_CUBLASLT_FOLDER);  // the build's toolkit
  return function_in(library, kNeededBy, name);
}

}  // namespace
}  // namespace mullion::cuda

// The library's own function of this name.
#define LOADED(name) MULLION_LOADED(mullion::cuda::function, name)

size_t cublasLtGetVersion() { return LOADED(cublasLtGetVersion)(); }
cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) { return LOADED(cublasLtCreate)(handle); }

cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t* layout, cudaDataType type,
                                          uint64_t rows, uint64_t columns, int64_t ld) {
  return LOADED(cublasLtMatrixLayoutCreate)(layout, type, rows, columns, ld);
}
cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
                                                cublasLtMatrixLayoutAttribute_t attribute,
                                                const void* value, size_t bytes) {
  return LOADED(cublasLtMatrixLayoutSetAttribute)(layout, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t* product, cublasComputeType_t compute,
                                        cudaDataType_t scale) {
  return LOADED(cublasLtMatmulDescCreate)(product, compute, scale);
}
cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t product,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* value, size_t bytes) {
  return LOADED(cublasLtMatmulDescSetAttribute)(product, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t* preference) {
  return LOADED(cublasLtMatmulPreferenceCreate)(preference);
}
cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t preference) {
  return LOADED(cublasLtMatmulPreferenceDestroy)(preference);
}
cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* value, size_t bytes) {
  return LOADED(cublasLtMatmulPreferenceSetAttribute)(preference, attribute, value, bytes);
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* found) {
  return LOADED(cublasLtMatmulAlgoGetHeuristic)(handle, product, a, b, c, d, preference, requested,
                                                results, found);
}
cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t product,
                              const void* alpha, const void* a, cublasLtMatrixLayout_t a_layout,
                              const void* b, cublasLtMatrixLayout_t b_layout, const void* beta,
                              const void* c, cublasLtMatrixLayout_t c_layout, void* d,
                              cublasLtMatrixLayout_t d_layout,
                              const cublasLtMatmulAlgo_t* algorithm, void* workspace,
                              size_t workspace_bytes, cudaStream_t stream) {
  return LOADED(cublasLtMatmul)(handle, product, alpha, a, a_layout, b, b_layout, beta, c, c_layout,
                                d, d_layout, algorithm, workspace, workspace_bytes, stream);
}
#endif
