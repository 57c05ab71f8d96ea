// The host versions of tensor/cuda/runtime/intrinsics.cuh, which says what each does.
#pragma once
#include <cstdint>
#include <cstring>

#include "tensor/simt/arithmetic.h"
#include "tensor/simt/engine.h"

namespace mullion::simt {

inline void cp_async_16(void* shared, const void* global, bool valid = true) {
  async_copy(shared, global, valid);
}
inline void cp_async_commit() { async_commit(); }
template <int N>
void cp_async_wait() {
  async_wait(N);
}

// 1 to 4 matrices, transposed or not, into as many registers a lane.
void load_matrices(uint32_t* registers, int matrices, bool transposed, const void* shared_row,
                   Site site);
inline void ldmatrix_x4(uint32_t (&r)[4], const void* shared_row, Site site = Site::current()) {
  load_matrices(r, 4, false, shared_row, site);
}
inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void* shared_row,
                              Site site = Site::current()) {
  load_matrices(r, 4, true, shared_row, site);
}
inline void ldmatrix_x2(uint32_t (&r)[2], const void* shared_row, Site site = Site::current()) {
  load_matrices(r, 2, false, shared_row, site);
}
inline void ldmatrix_x2_trans(uint32_t (&r)[2], const void* shared_row,
                              Site site = Site::current()) {
  load_matrices(r, 2, true, shared_row, site);
}

void mma_16816(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
               Site site = Site::current());

inline int hide_origin(int x) { return x; }

float warp_sum(float x, Site site = Site::current());
float warp_max(float x, Site site = Site::current());

template <typename V>
V load_vector(const void* address) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  check_aligned("load_vector", address, sizeof(V));
  V value;
  std::memcpy(&value, address, sizeof value);
  return value;
}
template <typename V>
void store_vector(void* address, const V& value) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  check_aligned("store_vector", address, sizeof(V));
  std::memcpy(address, &value, sizeof value);
}
template <typename V>
void store_global(void* address, const V& value) {
  static_assert(sizeof(V) % 8 == 0);
  store_vector(address, value);
}

}  // namespace mullion::simt
