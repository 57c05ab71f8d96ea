// ggml's blocks of 256 elements ("K-quants") and its two types over a table of 16 values, to f32
// and back. Scales and values are joined as in the PyPI package gguf: the same bits of f32.
//   q2_K   16 x (4 bits scale, 4 bits minimum) | 64 bytes of 2-bit q | f16 d, f16 m
//   q3_K   32 bytes of third bits | 64 bytes of 2-bit q | 12 bytes of 6-bit scales | f16 d
//   q4_K   f16 d, f16 m | 12 bytes of 6-bit scales and minima | 128 bytes of 4-bit q
//   q5_K   f16 d, f16 m | the same 12 bytes | 32 bytes of fifth bits | 128 bytes of 4-bit q
//   q6_K   128 low, 64 high bytes, 16 x i8 scale, f16 d
//   iq4_nl f16 d | 16 bytes of indices            32 elements
//   iq4_xs f16 d | 6 bytes of 6-bit scales | 128 bytes of indices
#pragma once
#include <cstddef>

#include "tensor/io/stored_type.h"

namespace mullion {

// One block at src (any alignment) to 256 values, or 32 of iq4_nl.
void k_block_to_f32(StoredType type, const std::byte* src, float* dst);

// 256 values to one block of q4_k, q5_k or q6_k; every sum is in f32, in the order of the elements.
void k_block_from_f32(StoredType type, const float* src, std::byte* dst);

}  // namespace mullion
