// Integer products of a row of blocks with rows rounded to 8 bits. A row of activations is rounded
// in groups of 32, x = scale q with scale = max |x| / 127, as ggml rounds them to Q8_0; then
//   sum of w x = sum over 16s of w.scale x.scale sum((u - centre) q) - w.minimum x.scale sum(q),
// whose inner sums are exact in integers.
#pragma once
#include "tensor/cpu/block_groups.h"

namespace mullion::cpu {

// 256 elements of a row of activations, the last ones 0 where the row is shorter.
struct RoundedChunk {
  alignas(64) int8_t q[kChunk];
  alignas(64) float scale[kChunk / kScaled];  // the same for both halves of a group
  alignas(64) float sum[kChunk / kScaled];    // scale x sum(q)
};

// A row of `width` elements, a multiple of 32, to its chunks. A group with a NaN or an infinity has
// a scale of NaN.
void round_row(const float* x, int64_t width, RoundedChunk* to);

// The instructions of the integer products; `best` is the last of them that the build has.
enum class DotKind { portable, avx2, vnni };
DotKind best_dot_kind();

// y[i * ldy] = the dot product of one row of W with row i of m <= 8 rounded rows, which lie
// chunks_of(width) chunks apart.
void block_dots(DotKind kind, StoredType type, const std::byte* row, int64_t width,
                const RoundedChunk* x, int m, float* y, int64_t ldy);

inline int64_t chunks_of(int64_t width) { return (width + kChunk - 1) / kChunk; }

}  // namespace mullion::cpu
