// Blocks unpacked for integer products: up to 256 consecutive elements of a row as small unsigned
// numbers with a scale for each 16 of them,
//   x = scale (u - centre) - minimum.
#pragma once
#include <cstddef>
#include <cstdint>

#include "tensor/io/stored_type.h"

namespace mullion::cpu {

constexpr int kChunk = 256, kGroup = 32, kScaled = 16;

struct BlockGroups {
  alignas(64) uint8_t u[kChunk];
  alignas(64) float scale[kChunk / kScaled];
  alignas(64) float minimum[kChunk / kScaled];
};

// What a type's unpacked values have in common.
struct GroupLayout {
  int centre;        // 0 where there are minima
  bool has_minimum;  // else all of them are 0, and not written
};
GroupLayout group_layout(StoredType type);

// `groups` of 32 elements at src, 8 of a type of 256; the scales and minima of groups behind them
// are 0, their values anything.
void unpack_groups(StoredType type, const std::byte* src, int groups, BlockGroups& to);

// `n` elements, whole blocks, in f32: the bits of to_f32, several times as fast.
void widen_blocks(StoredType type, const std::byte* src, int64_t n, float* y);

// The first `n` elements, whole blocks, of `rows` rows that begin row_bytes apart, transposed: y[i
// * kPanelColumns + r] is element i of row r, with the same bits. Rows are written by 16; behind
// the last one come zeros. rows <= kPanelColumns.
constexpr int64_t kPanelColumns = 64;
void widen_transposed(StoredType type, const std::byte* src, int64_t row_bytes, int64_t rows,
                      int64_t n, float* y);

}  // namespace mullion::cpu
