// The bits are those of k_blocks.cc and stored_type.cc, which describe each type. Loops over bytes
// have fixed trip counts, which the compiler vectorises.
#include "tensor/cpu/block_groups.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/io/block_bytes.h"

namespace mullion::cpu {
namespace {

const uint8_t* bytes_at(const std::byte* src) { return reinterpret_cast<const uint8_t*>(src); }

// 16 bytes of nibbles: the low ones are the first half of 32.
void nibbles(const std::byte* src, uint8_t* u) {
  const uint8_t* b = bytes_at(src);
  for (int i = 0; i < 16; ++i) u[i] = b[i] & 15;
  for (int i = 0; i < 16; ++i) u[16 + i] = b[i] >> 4;
}

// The fifth bits of 32 elements, from a u32.
void add_fifth_bits(const std::byte* src, uint8_t* u) {
  constexpr uint8_t kBit[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint8_t* high = bytes_at(src);
  for (int i = 0; i < 32; ++i)
    u[i] = static_cast<uint8_t>(u[i] | ((high[i / 8] & kBit[i % 8]) ? 16 : 0));
}

// Values of iq4's table plus 128.
void from_table(const std::byte* src, uint8_t* u) {
  constexpr uint8_t kTable[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                  129, 141, 153, 166, 181, 197, 217, 241};
  nibbles(src, u);
  for (int i = 0; i < 32; ++i) u[i] = kTable[u[i]];
}

// Types of 32 elements: one scale, and a minimum of the other sign where they have one.
void small_block(StoredType type, const std::byte* src, uint8_t* u, float& minimum) {
  switch (type) {
    case StoredType::q4_0:
      return nibbles(src + 2, u);
    case StoredType::q4_1:
      minimum = -load_f16(src + 2);
      return nibbles(src + 4, u);
    case StoredType::q5_0:
      nibbles(src + 6, u);
      return add_fifth_bits(src + 2, u);
    case StoredType::q5_1:
      minimum = -load_f16(src + 2);
      nibbles(src + 8, u);
      return add_fifth_bits(src + 4, u);
    case StoredType::q8_0:
      for (int i = 0; i < 32; ++i) u[i] = bytes_at(src)[2 + i] ^ 0x80;
      return;
    default:
      return from_table(src + 2, u);
  }
}

void small_blocks(StoredType type, const std::byte* src, int groups, BlockGroups& to) {
  const auto size = layout_of(type).block_bytes;
  const bool has_minimum = group_layout(type).has_minimum;
  for (int g = 0; g < groups; ++g, src += size) {
    float minimum = 0;
    small_block(type, src, to.u + kGroup * g, minimum);
    to.scale[2 * g] = to.scale[2 * g + 1] = load_f16(src);
    if (has_minimum) to.minimum[2 * g] = to.minimum[2 * g + 1] = minimum;
  }
  std::fill(to.scale + 2 * groups, to.scale + kChunk / kScaled, 0.0f);
  if (has_minimum) std::fill(to.minimum + 2 * groups, to.minimum + kChunk / kScaled, 0.0f);
}

void q2_block(const std::byte* src, BlockGroups& to) {
  const float d = load_f16(src + 80), m = load_f16(src + 82);
  const uint8_t* b = bytes_at(src);
  for (int i = 0; i < 16; ++i) {
    to.scale[i] = d * static_cast<float>(b[i] & 15);
    to.minimum[i] = m * static_cast<float>(b[i] >> 4);
  }
  for (int c = 0; c < 8; ++c)
    for (int i = 0; i < 32; ++i) to.u[32 * c + i] = (b[16 + 32 * (c / 4) + i] >> (2 * (c % 4))) & 3;
}

void q3_block(const std::byte* src, BlockGroups& to) {
  const uint8_t* b = bytes_at(src);
  const uint8_t* packed = b + 96;
  const float d = load_f16(src + 108);
  for (int j = 0; j < 16; ++j) {
    const int low = (packed[j % 8] >> (4 * (j / 8))) & 15;
    const int high = (packed[8 + j % 4] >> (2 * (j / 4))) & 3;
    to.scale[j] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (int c = 0; c < 8; ++c)
    for (int i = 0; i < 32; ++i) {
      const int low = (b[32 + 32 * (c / 4) + i] >> (2 * (c % 4))) & 3;
      to.u[32 * c + i] = static_cast<uint8_t>(low | ((b[i] >> c) & 1) << 2);
    }
}

void q4_or_q5_block(const std::byte* src, const uint8_t* high, const uint8_t* q, BlockGroups& to) {
  const float d = load_f16(src), m = load_f16(src + 2);
  for (int c = 0; c < 8; ++c) {
    const ScaleAndMinimum packed = scale_and_minimum(src + 4, c);
    to.scale[2 * c] = to.scale[2 * c + 1] = d * static_cast<float>(packed.scale);
    to.minimum[2 * c] = to.minimum[2 * c + 1] = m * static_cast<float>(packed.minimum);
  }
  for (int c = 0; c < 8; c += 2, q += 32) {
    for (int i = 0; i < 32; ++i) to.u[32 * c + i] = q[i] & 15;
    for (int i = 0; i < 32; ++i) to.u[32 * c + 32 + i] = q[i] >> 4;
  }
  if (!high) return;
  for (int c = 0; c < 8; ++c)
    for (int i = 0; i < 32; ++i)
      to.u[32 * c + i] = static_cast<uint8_t>(to.u[32 * c + i] | ((high[i] >> c) & 1) << 4);
}

void q6_block(const std::byte* src, BlockGroups& to) {
  const uint8_t* b = bytes_at(src);
  const float d = load_f16(src + 208);
  for (int i = 0; i < 16; ++i)
    to.scale[i] = d * static_cast<float>(static_cast<int8_t>(b[192 + i]));
  for (int half = 0; half < 2; ++half)
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 32; ++i) {
        const int low = (b[64 * half + 32 * (g % 2) + i] >> (4 * (g / 2))) & 15;
        const int high = (b[128 + 32 * half + i] >> (2 * g)) & 3;
        to.u[128 * half + 32 * g + i] = static_cast<uint8_t>(low | high << 4);
      }
}

void iq4_xs_block(const std::byte* src, BlockGroups& to) {
  const float d = load_f16(src);
  const int high = load<uint16_t>(src + 2);
  const uint8_t* b = bytes_at(src);
  for (int c = 0; c < 8; ++c) {
    const int low = (b[4 + c / 2] >> (4 * (c % 2))) & 15;
    const int scale = (low | ((high >> (2 * c)) & 3) << 4) - 32;
    to.scale[2 * c] = to.scale[2 * c + 1] = d * static_cast<float>(scale);
    from_table(src + 8 + 16 * c, to.u + 32 * c);
  }
}

}  // namespace

GroupLayout group_layout(StoredType type) {
  switch (type) {
    case StoredType::q3_k:
      return {4, false};
    case StoredType::q4_0:
      return {8, false};
    case StoredType::q5_0:
      return {16, false};
    case StoredType::q6_k:
      return {32, false};
    case StoredType::q8_0:
    case StoredType::iq4_nl:
    case StoredType::iq4_xs:
      return {128, false};
    default:
      return {0, true};
  }
}

void unpack_groups(StoredType type, const std::byte* src, int groups, BlockGroups& to) {
  switch (type) {
    case StoredType::q2_k:
      return q2_block(src, to);
    case StoredType::q3_k:
      return q3_block(src, to);
    case StoredType::q4_k:
      return q4_or_q5_block(src, nullptr, bytes_at(src) + 16, to);
    case StoredType::q5_k:
      return q4_or_q5_block(src, bytes_at(src) + 16, bytes_at(src) + 48, to);
    case StoredType::q6_k:
      return q6_block(src, to);
    case StoredType::iq4_xs:
      return iq4_xs_block(src, to);
    default:
      return small_blocks(type, src, groups, to);
  }
}

}  // namespace mullion::cpu
