// f32 values in the forms that files store: the way back of to_f32.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/io/stored_type.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// Types that from_f32 writes: F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K.
bool converts_from_f32(StoredType type);

// `count` values, a whole number of blocks, to dst (any alignment). Plain numbers are rounded to
// nearest even. Blocks of 32 get the bits of the PyPI package gguf, whose rules are those of
// ggml's reference (for x of largest magnitude m, or range [a, b]):
//   q8_0  d = |m| / 127, q = round(x / d) away from zero
//   q4_0, q5_0  d = m / -8, m / -16; q = floor(x / d + 8.5), floor(x / d + 16.5)
//   q4_1, q5_1  d = (b - a) / 15, / 31; q = floor((x - a) / d + 0.5)
// each in f32 with a reciprocal of d, and d kept in f16. Blocks of 256 get the best of a few dozen
// scales for each group of 32 (q4_K, q5_K) or 16 (q6_K), as ggml's reference searches them
// (k_quantize.cc). The same values give the same bits on every machine and with any number of
// threads.
void from_f32(StoredType type, const float* src, uint64_t count, std::byte* dst);

// All bytes of a tensor as `type`: as stored where that is its type, else through f32.
// Error(bad_file) names the tensor where a value is not finite or beyond F16.
std::vector<std::byte> stored_as(const TensorSource& source, std::string_view name,
                                 StoredType type);

}  // namespace mullion
