// Reading; each loop has a fixed trip count, which the compiler vectorises. Compiled without fused
// multiply-adds (CMakeLists.txt): the bits are those of separate roundings.
#include "tensor/io/k_blocks.h"

#include "tensor/check.h"
#include "tensor/io/block_bytes.h"

namespace mullion {
namespace {

// What both types over a table have for each index.
constexpr int8_t kTable[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                               1,    13,   25,  38,  53,  69,  89,  113};

int byte_at(const std::byte* src, int i) { return static_cast<int>(src[i]); }

// Two halves of 128; element 32 g + i of a half has bits 2 g of byte i, and scale 2 g + i / 16.
void q2_block(const std::byte* src, float* dst) {
  const float d = load_f16(src + 80), m = load_f16(src + 82);
  for (int half = 0; half < 2; ++half, dst += 128) {
    const std::byte* scale = src + 8 * half;
    const std::byte* q = src + 16 + 32 * half;
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 32; ++i) {
        const int both = byte_at(scale, 2 * g + i / 16);
        const float s = d * static_cast<float>(both & 15), low = m * static_cast<float>(both >> 4);
        dst[32 * g + i] = s * static_cast<float>((byte_at(q, i) >> (2 * g)) & 3) - low;
      }
  }
}

// As q2_K; the third bit of element 32 c + i of the block is bit c of byte i, and stands for -4
// where it is 0. Scale j has 4 bits in nibble j / 8 of byte j % 8, 2 in byte 8 + j % 4.
void q3_block(const std::byte* src, float* dst) {
  const std::byte* packed = src + 96;
  const float d = load_f16(src + 108);
  float scale[16];
  for (int j = 0; j < 16; ++j) {
    const int low = (byte_at(packed, j % 8) >> (4 * (j / 8))) & 15;
    const int high = (byte_at(packed, 8 + j % 4) >> (2 * (j / 4))) & 3;
    scale[j] = d * static_cast<float>((low | high << 4) - 32);
  }
  for (int c = 0; c < 8; ++c)
    for (int i = 0; i < 32; ++i) {
      const int low = (byte_at(src + 32 + 32 * (c / 4), i) >> (2 * (c % 4))) & 3;
      const int high = (byte_at(src, i) >> c) & 1;
      dst[32 * c + i] = scale[2 * c + i / 16] * static_cast<float>(low - 4 * (1 - high));
    }
}

// Groups of 32: element i of group c has nibble c % 2 of byte 32 (c / 2) + i, and, with five bits,
// bit c of high[i].
void q4_or_q5_block(const std::byte* src, const std::byte* high, const std::byte* q, float* dst) {
  const float d = load_f16(src), m = load_f16(src + 2);
  for (int c = 0; c < 8; ++c, dst += 32) {
    const ScaleAndMinimum packed = scale_and_minimum(src + 4, c);
    const float s = d * static_cast<float>(packed.scale);
    const float low = m * static_cast<float>(packed.minimum);
    const std::byte* bytes = q + 32 * (c / 2);
    const int shift = 4 * (c % 2);
    for (int i = 0; i < 32; ++i) {
      const int fifth = high ? (byte_at(high, i) >> c) & 1 : 0;
      dst[i] = s * static_cast<float>(((byte_at(bytes, i) >> shift) & 15) | fifth << 4) - low;
    }
  }
}

// Two halves of 128; element 32 g + i of a half has 4 low bits in nibble g / 2 of low[32 (g % 2)
// + i], 2 high bits at 2 g of high[i], and the scale 2 g + i / 16.
void q6_block(const std::byte* src, float* dst) {
  const float d = load_f16(src + 208);
  for (int half = 0; half < 2; ++half, dst += 128) {
    const std::byte* low = src + 64 * half;
    const std::byte* high = src + 128 + 32 * half;
    const std::byte* scale = src + 192 + 8 * half;
    for (int g = 0; g < 4; ++g)
      for (int i = 0; i < 32; ++i) {
        const int nibble = (byte_at(low, 32 * (g % 2) + i) >> (4 * (g / 2))) & 15;
        const int q = nibble | (((byte_at(high, i) >> (2 * g)) & 3) << 4);
        dst[32 * g + i] = d * static_cast<float>(static_cast<int8_t>(scale[2 * g + i / 16])) *
                          static_cast<float>(q - 32);
      }
  }
}

// 32 elements whose low nibbles are the first half.
void table_block(const std::byte* q, float d, float* dst) {
  for (int i = 0; i < 16; ++i) {
    dst[i] = d * static_cast<float>(kTable[byte_at(q, i) & 15]);
    dst[16 + i] = d * static_cast<float>(kTable[byte_at(q, i) >> 4]);
  }
}

// Scale c has 2 high bits at 2 c of a u16, 4 low ones in nibble c % 2 of byte c / 2 after it.
void iq4_xs_block(const std::byte* src, float* dst) {
  const float d = load_f16(src);
  const int high = load<uint16_t>(src + 2);
  for (int c = 0; c < 8; ++c) {
    const int low = (byte_at(src + 4, c / 2) >> (4 * (c % 2))) & 15;
    const int scale = (low | ((high >> (2 * c)) & 3) << 4) - 32;
    table_block(src + 8 + 16 * c, d * static_cast<float>(scale), dst + 32 * c);
  }
}

}  // namespace

void k_block_to_f32(StoredType type, const std::byte* src, float* dst) {
  switch (type) {
    case StoredType::q2_k:
      return q2_block(src, dst);
    case StoredType::q3_k:
      return q3_block(src, dst);
    case StoredType::q4_k:
      return q4_or_q5_block(src, nullptr, src + 16, dst);
    case StoredType::q5_k:
      return q4_or_q5_block(src, src + 16, src + 48, dst);
    case StoredType::q6_k:
      return q6_block(src, dst);
    case StoredType::iq4_nl:
      return table_block(src + 2, load_f16(src), dst);
    case StoredType::iq4_xs:
      return iq4_xs_block(src, dst);
    default:
      fail(Fault::bad_file, "no conversion of ", name_of(type), " to F32");
  }
}

}  // namespace mullion
