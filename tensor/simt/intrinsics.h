// The host versions of tensor/cuda/runtime/intrinsics.cuh, which says what each does.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

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

// One access of 4, 8 or 16 bytes (intrinsics.cc has those).
__extension__ using Word128 = unsigned __int128;
template <typename Word>
Word load_word(const void* address);
template <typename Word>
void store_word(void* address, Word word);
template <size_t kBytes>
using WordOf =
    std::conditional_t<kBytes == 4, uint32_t, std::conditional_t<kBytes == 8, uint64_t, Word128>>;

template <typename V>
V load_vector(const void* address) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  return std::bit_cast<V>(load_word<WordOf<sizeof(V)>>(address));
}
template <typename V>
void store_vector(void* address, const V& value) {
  static_assert(alignof(V) == sizeof(V), "a vector type: float4, uint2, ...");
  store_word(address, std::bit_cast<WordOf<sizeof(V)>>(value));
}
template <typename V>
void store_global(void* address, const V& value) {
  static_assert(sizeof(V) % 8 == 0);
  store_vector(address, value);
}

}  // namespace mullion::simt
