// What every CUDA kernel needs: the choice of the element type, and arithmetic in f32 whatever the
// type in memory.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/check.h"
#include "tensor/dtype.h"

namespace mullion::cuda {

using Bf16 = __nv_bfloat16;
static_assert(sizeof(Bf16) == 2);

// Calls f(float{}) or f(Bf16{}): the tag's type is the type in memory.
template <typename F>
void dispatch_cuda(const char* kernel, DType type, F f) {
  if (type == DType::f32) return f(float{});
  if (type == DType::bf16) return f(Bf16{});
  CHECK_AS(Fault::usage, type != DType::f64, kernel,
           ": f64 is for the CPU's gradient checks; cuda computes in f32 and bf16");
  fail(Fault::usage, kernel, ": no kernel for type ", name_of(type), " on cuda (f32, bf16)");
}

// An element as f32, and back in the type of memory.
__host__ __device__ inline float widen(float x) { return x; }
__host__ __device__ inline float widen(Bf16 x) { return __bfloat162float(x); }
template <typename T>
__host__ __device__ inline T narrow(float x);
template <>
__host__ __device__ inline float narrow<float>(float x) {
  return x;
}
template <>
__host__ __device__ inline Bf16 narrow<Bf16>(float x) {
  return __float2bfloat16(x);
}

// Blocks of `threads` that cover n items, at most `most` where the kernel walks in strides. Without
// that, more blocks than a grid has are launch()'s to refuse.
inline int64_t blocks_for(int64_t n, int threads, int64_t most = INT64_MAX) {
  const int64_t blocks = (n + threads - 1) / threads;
  return blocks < 1 ? 1 : blocks > most ? most : blocks;
}

}  // namespace mullion::cuda
