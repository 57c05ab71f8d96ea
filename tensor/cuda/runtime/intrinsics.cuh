// The instructions of tensor cores and asynchronous copies, and what is built from shuffles. On the
// device they are inline PTX (PTX ISA 8, sections "mma.m16n8k16", "ldmatrix", "cp.async"; sm_80
// upwards); in the emulator the functions of tensor/simt/intrinsics.h.
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstring>

#ifdef MULLION_SIMT
#include "tensor/simt/intrinsics.h"
#endif

namespace mullion::cuda {

constexpr unsigned kFullMask = 0xffffffffu;
constexpr int kWarpSize = 32;

#ifdef MULLION_SIMT

using simt::cp_async_16;
using simt::cp_async_commit;
using simt::cp_async_wait;
using simt::exp2_approximate;
using simt::hide_origin;
using simt::ldmatrix_x2;
using simt::ldmatrix_x2_trans;
using simt::ldmatrix_x4;
using simt::ldmatrix_x4_trans;
using simt::load_vector;
using simt::mma_16816;
using simt::store_global;
using simt::store_vector;
using simt::warp_max;
using simt::warp_sum;

#else

// The address of shared memory as PTX wants it.
__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Copies 16 bytes from global to shared memory, past the L1 cache, without waiting; zeros where not
// `valid`, and `global` is not read. The copies up to a commit are a group; cp_async_wait<N>()
// waits until at most the N youngest groups of this thread are under way. Other threads see the
// bytes after a barrier that follows the wait.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, bool valid = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(N) : "memory");
}

// Loads 8 x 8 matrices of 16-bit elements: lane 8 j + i hands in the address of row i of matrix j
// (16 bytes, aligned); lane l gets, of each matrix, elements 2 (l % 4) and the next of row l / 4.
// `trans` hands out the transposed matrices. x2 takes the addresses of lanes 0 .. 15.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}
__device__ __forceinline__ void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];\n"
               : "=r"(r[0]), "=r"(r[1])
               : "r"(shared_address(shared_row))
               : "memory");
}

// D += A B with A 16 x 16, B 16 x 8 in bf16, D 16 x 8 in f32, spread over the warp. With g = lane /
// 4 and t = lane % 4, lane holds of A rows g (a0, a2) and g + 8 (a1, a3), columns 2 t, 2 t + 1 (a0,
// a1) and 8 further (a2, a3); of B column g, rows 2 t, 2 t + 1 (b0) and 8 further (b1); of D row g
// (d0, d1) and g + 8 (d2, d3), columns 2 t and 2 t + 1.
__device__ __forceinline__ void mma_16816(float (&d)[4], const uint32_t (&a)[4],
                                          const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// 2^x in one instruction, to two units in the last place; results below 2^-126 are zero.
__device__ __forceinline__ float exp2_approximate(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// Returns x, in a way that the compiler does not see through: what is computed from it inside a
// loop stays there instead of waiting in registers.
__device__ __forceinline__ int hide_origin(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// The sum and the largest over the warp, in every lane; the order is that of the butterfly.
__device__ __forceinline__ float warp_sum(float x) {
#pragma unroll
  for (int bit = kWarpSize / 2; bit > 0; bit /= 2) x += __shfl_xor_sync(kFullMask, x, bit);
  return x;
}
__device__ __forceinline__ float warp_max(float x) {
#pragma unroll
  for (int bit = kWarpSize / 2; bit > 0; bit /= 2) x = fmaxf(x, __shfl_xor_sync(kFullMask, x, bit));
  return x;
}

// One access of sizeof(V) = 4, 8 or 16 bytes; the address is a multiple of that.
template <typename V>
__device__ __forceinline__ V load_vector(const void* address) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  return *static_cast<const V*>(address);
}
template <typename V>
__device__ __forceinline__ void store_vector(void* address, const V& value) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  *static_cast<V*>(address) = value;
}
// The same to global memory, in one instruction for certain: the compiler cuts an assignment into
// words where the value comes from an array or the address from several 64-bit terms.
template <typename V>
__device__ __forceinline__ void store_global(void* address, const V& value) {
  static_assert(alignof(V) == sizeof(V) && sizeof(V) % 8 == 0, "a vector type: float4, uint2, ...");
  uint32_t w[sizeof(V) / 4];
  memcpy(w, &value, sizeof w);
  const size_t global = __cvta_generic_to_global(address);
  if constexpr (sizeof(V) == 16)
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(global), "r"(w[0]), "r"(w[1]),
                 "r"(w[2]), "r"(w[3])
                 : "memory");
  else
    asm volatile("st.global.v2.b32 [%0], {%1, %2};\n" ::"l"(global), "r"(w[0]), "r"(w[1])
                 : "memory");
}

#endif

// Two floats rounded to bf16, `low` in the lower half: a register of a fragment.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof bits);
  return bits;
}
// The halves of a register as floats.
__device__ __forceinline__ float low_bf16(uint32_t bits) { return __uint_as_float(bits << 16); }
__device__ __forceinline__ float high_bf16(uint32_t bits) {
  return __uint_as_float(bits & 0xffff0000u);
}

}  // namespace mullion::cuda
