// Conversions to f32, a block at a time with fixed trip counts, which the compiler vectorises.
// Compiled without fused multiply-adds (CMakeLists.txt): the bits are those of separate roundings.
#include "tensor/io/stored_type.h"

#include <array>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/block_bytes.h"
#include "tensor/io/checked.h"
#include "tensor/io/k_blocks.h"

namespace mullion {

static_assert(std::endian::native == std::endian::little, "files are little endian");

namespace {
constexpr std::array<StoredLayout, 25> kLayouts = {{
    {"F32", 1, 4},        {"BF16", 1, 2},     {"F16", 1, 2},      {"F64", 1, 8},
    {"I64", 1, 8},        {"I32", 1, 4},      {"I16", 1, 2},      {"I8", 1, 1},
    {"U64", 1, 8},        {"U32", 1, 4},      {"U16", 1, 2},      {"U8", 1, 1},
    {"BOOL", 1, 1},       {"Q4_0", 32, 18},   {"Q4_1", 32, 20},   {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},     {"Q8_0", 32, 34},   {"IQ4_NL", 32, 18}, {"Q2_K", 256, 84},
    {"Q3_K", 256, 110},   {"Q4_K", 256, 144}, {"Q5_K", 256, 176}, {"Q6_K", 256, 210},
    {"IQ4_XS", 256, 136},
}};

void f16_to_f32(const std::byte* src, uint64_t count, float* dst) {
  uint64_t i = 0;
#ifdef __F16C__
  for (; i + 8 <= count; i += 8) {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(src + 2 * i));
    _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(half));
  }
#endif
  for (; i < count; ++i) dst[i] = load_f16(src + 2 * i);
}

void bf16_to_f32(const std::byte* src, uint64_t count, float* dst) {
  for (uint64_t i = 0; i < count; ++i) {
    const uint32_t bits = static_cast<uint32_t>(load<uint16_t>(src + 2 * i)) << 16;
    std::memcpy(dst + i, &bits, 4);
  }
}

void f64_to_f32(const std::byte* src, uint64_t count, float* dst) {
  for (uint64_t i = 0; i < count; ++i) dst[i] = static_cast<float>(load<double>(src + 8 * i));
}

void q8_0_block(const std::byte* src, float* dst) {
  const float d = load_f16(src);
  for (int i = 0; i < 32; ++i) {
    dst[i] = d * static_cast<float>(static_cast<int8_t>(src[2 + i]));
  }
}

// Q4_0 and Q4_1: x = d (q - offset) + m. An m of -0 changes no value, and no zero's sign.
void nibble_block(const std::byte* q, float d, int offset, float m, float* dst) {
  for (int i = 0; i < 16; ++i) {
    const int byte = static_cast<int>(q[i]);
    dst[i] = d * static_cast<float>((byte & 15) - offset) + m;
    dst[16 + i] = d * static_cast<float>((byte >> 4) - offset) + m;
  }
}

// Q5_0 and Q5_1: the fifth bit of element i is bit i of `high`.
void five_bit_block(const std::byte* src, float d, int offset, float m, float* dst) {
  const uint32_t high = load<uint32_t>(src);
  for (int i = 0; i < 16; ++i) {
    const int byte = static_cast<int>(src[4 + i]);
    const int low_q = (byte & 15) | static_cast<int>(((high >> i) & 1) << 4);
    const int high_q = (byte >> 4) | static_cast<int>(((high >> (16 + i)) & 1) << 4);
    dst[i] = d * static_cast<float>(low_q - offset) + m;
    dst[16 + i] = d * static_cast<float>(high_q - offset) + m;
  }
}

void block_to_f32(StoredType type, const std::byte* src, float* dst) {
  switch (type) {
    case StoredType::q8_0:
      return q8_0_block(src, dst);
    case StoredType::q4_0:
      return nibble_block(src + 2, load_f16(src), 8, -0.0f, dst);
    case StoredType::q4_1:
      return nibble_block(src + 4, load_f16(src), 0, load_f16(src + 2), dst);
    case StoredType::q5_0:
      return five_bit_block(src + 2, load_f16(src), 16, -0.0f, dst);
    case StoredType::q5_1:
      return five_bit_block(src + 4, load_f16(src), 0, load_f16(src + 2), dst);
    default:
      return k_block_to_f32(type, src, dst);
  }
}
}  // namespace

const StoredLayout& layout_of(StoredType type) { return kLayouts[static_cast<size_t>(type)]; }

std::optional<DType> dtype_of(StoredType type) {
  switch (type) {
    case StoredType::f32:
      return DType::f32;
    case StoredType::bf16:
      return DType::bf16;
    case StoredType::f16:
      return DType::f16;
    case StoredType::f64:
      return DType::f64;
    case StoredType::i64:
      return DType::i64;
    case StoredType::i32:
      return DType::i32;
    case StoredType::u8:
      return DType::u8;
    case StoredType::boolean:
      return DType::boolean;
    default:
      return std::nullopt;
  }
}

StoredType stored_type_of(DType type) {
  constexpr StoredType kTypes[] = {StoredType::f32, StoredType::bf16,   StoredType::f16,
                                   StoredType::f64, StoredType::i32,    StoredType::i64,
                                   StoredType::u8,  StoredType::boolean};
  return kTypes[static_cast<size_t>(type)];
}

std::optional<StoredType> stored_type_of_safetensors(std::string_view dtype) {
  for (size_t i = 0; i <= static_cast<size_t>(StoredType::boolean); ++i) {
    if (kLayouts[i].name == dtype) return static_cast<StoredType>(i);
  }
  return std::nullopt;
}

uint64_t stored_bytes(StoredType type, uint64_t count, uint64_t row, const std::string& what) {
  const StoredLayout& layout = layout_of(type);
  CHECK_AS(Fault::bad_file, row % layout.block == 0, what, ": rows of ", row,
           " elements are no whole number of ", layout.name, " blocks of ", layout.block);
  return checked_multiply(count / layout.block, layout.block_bytes, what);
}

bool converts_to_f32(StoredType type) {
  return type <= StoredType::f64 || type >= StoredType::q4_0;
}

void to_f32(StoredType type, const std::byte* src, uint64_t count, float* dst) {
  switch (type) {
    case StoredType::f32:
      if (count > 0) std::memcpy(dst, src, 4 * count);
      return;
    case StoredType::f16:
      return f16_to_f32(src, count, dst);
    case StoredType::bf16:
      return bf16_to_f32(src, count, dst);
    case StoredType::f64:
      return f64_to_f32(src, count, dst);
    default:
      break;
  }
  const StoredLayout& layout = layout_of(type);
  for (uint64_t i = 0; i < count; i += layout.block, src += layout.block_bytes) {
    block_to_f32(type, src, dst + i);
  }
}

}  // namespace mullion
