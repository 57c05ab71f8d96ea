// The element types of a tensor, and the two 16-bit floats as small value types.
#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

namespace mullion {

// f64 exists on the CPU for gradient checks; f16 is for loading and storing only.
enum class DType : uint8_t { f32, bf16, f16, f64, i32, i64, u8, boolean };

constexpr int64_t size_of(DType t) {
  switch (t) {
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::u8:
    case DType::boolean:
      return 1;
  }
  return 0;
}

constexpr std::string_view name_of(DType t) {
  constexpr std::string_view names[] = {"f32", "bf16", "f16", "f64", "i32", "i64", "u8", "bool"};
  return names[static_cast<int>(t)];
}

constexpr bool is_float(DType t) { return t <= DType::f64; }

// bfloat16: the upper half of an f32; conversion rounds to nearest even and keeps NaNs.
struct bf16 {
  uint16_t bits = 0;
  bf16() = default;
  explicit bf16(float f) {
    const uint32_t u = std::bit_cast<uint32_t>(f);
    const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
    bits = nan ? static_cast<uint16_t>((u >> 16) | 0x40)
               : static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

// IEEE half precision, converted in software: it is only ever loaded from and stored to files.
struct f16 {
  uint16_t bits = 0;
  f16() = default;
  explicit f16(float f);
  explicit operator float() const;
};

}  // namespace mullion
