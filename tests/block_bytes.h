// Blocks of every type with made-up contents: any bytes are numbers, but for the scales in f16,
// which are kept near 1 / 64.
#pragma once
#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/io/stored_type.h"
#include "tensor/random.h"

namespace mullion::test {

inline constexpr std::array kBlockTypes = {StoredType::q4_0, StoredType::q4_1, StoredType::q5_0,
                                           StoredType::q5_1, StoredType::q8_0, StoredType::iq4_nl,
                                           StoredType::q2_k, StoredType::q3_k, StoredType::q4_k,
                                           StoredType::q5_k, StoredType::q6_k, StoredType::iq4_xs};

// Where the f16 scales of a block of the type are.
inline std::vector<size_t> scales_at(StoredType type) {
  switch (type) {
    case StoredType::q4_1:
    case StoredType::q5_1:
    case StoredType::q4_k:
    case StoredType::q5_k:
      return {0, 2};
    case StoredType::q2_k:
      return {80, 82};
    case StoredType::q3_k:
      return {108};
    case StoredType::q6_k:
      return {208};
    default:
      return {0};
  }
}

inline std::vector<std::byte> made_up_blocks(StoredType type, int64_t elements, uint64_t seed) {
  const StoredLayout& layout = layout_of(type);
  const size_t blocks = static_cast<size_t>(elements) / layout.block;
  std::vector<std::byte> bytes(blocks * layout.block_bytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(mix_bits(seed, i));
  for (size_t b = 0; b < blocks; ++b)
    for (const size_t at : scales_at(type)) {
      const uint64_t drawn = mix_bits(seed + 1, 4 * b + at % 4);
      const float scale = 0.01f + 0.01f * static_cast<float>(drawn % 100) / 100;
      const f16 half(drawn & 1024 ? -scale : scale);
      std::memcpy(&bytes[b * layout.block_bytes + at], &half, sizeof half);
    }
  return bytes;
}

}  // namespace mullion::test
