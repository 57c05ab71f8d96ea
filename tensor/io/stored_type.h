// How the elements of a tensor are stored in a file: plain numbers, or the block formats of GGUF,
// where a block of 32 or 256 consecutive elements of a row shares its scales.
//   q8_0  f16 d | 32 x i8 q            x = d q
//   q4_0  f16 d | 16 bytes             x = d (q - 8)    low nibbles: elements 0..15, high: 16..31
//   q4_1  f16 d, f16 m | 16 bytes      x = d q + m
//   q5_0, q5_1: the same with a fifth bit each in a u32 before the nibbles
//   q2_K to q6_K, iq4_nl, iq4_xs: k_blocks.h
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "tensor/dtype.h"

namespace mullion {

enum class StoredType : uint8_t {
  f32,
  bf16,
  f16,
  f64,
  i64,
  i32,
  i16,
  i8,
  u64,
  u32,
  u16,
  u8,
  boolean,
  q4_0,
  q4_1,
  q5_0,
  q5_1,
  q8_0,
  iq4_nl,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_xs
};

struct StoredLayout {
  std::string_view name;  // as files spell it: "F32", "Q4_1"
  uint64_t block;         // elements in a block; 1 for plain numbers
  uint64_t block_bytes;
};

const StoredLayout& layout_of(StoredType type);
inline std::string_view name_of(StoredType type) { return layout_of(type).name; }

// The element type of ours with the same bytes; none for block formats and foreign integers.
std::optional<DType> dtype_of(StoredType type);
StoredType stored_type_of(DType type);

// The type of a safetensors "dtype" string; none where it is unknown.
std::optional<StoredType> stored_type_of_safetensors(std::string_view dtype);

// Bytes of `count` elements in rows of `row` elements; refuses rows that are no whole number of
// blocks and sizes that overflow. `what` names the tensor.
uint64_t stored_bytes(StoredType type, uint64_t count, uint64_t row, const std::string& what);

// True where to_f32 knows the type: floats and block formats.
bool converts_to_f32(StoredType type);
// `count` elements, a whole number of blocks, from src (any alignment) to dst.
void to_f32(StoredType type, const std::byte* src, uint64_t count, float* dst);

}  // namespace mullion
