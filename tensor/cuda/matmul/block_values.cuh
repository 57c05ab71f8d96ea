// Elements of a block, four at a time, for each type of tensor/io/stored_type.h; the formulas stand
// there and in k_blocks.cc. All types are one form, as on the CPU (tensor/cpu/block_groups.h):
//   x = scale (u - centre) - minimum,
// u a small number of 8 bits, scale and minimum the same for 16 elements.
#pragma once
#include <cstdint>

#include "tensor/cuda/dispatch.h"
#include "tensor/io/stored_type.h"

namespace mullion::cuda {

// Of a scale, which is finite: the multiplication sets the exponent right, also of a subnormal.
__device__ __forceinline__ float f16_at(const uint8_t* b) {
  const uint32_t half = b[0] | uint32_t{b[1]} << 8;
  const float magnitude = __uint_as_float((half & 0x7fff) << 13) * 0x1p112f;
  return half & 0x8000 ? -magnitude : magnitude;
}

// Four bytes; blocks, and the parts of one, begin at even addresses.
__device__ __forceinline__ uint32_t word_at(const uint8_t* b) {
  const auto* halves = reinterpret_cast<const uint16_t*>(b);
  return halves[0] | uint32_t{halves[1]} << 16;
}

// Elements i .. i + 3 of 32 whose lower four bits are the low ones of 16 bytes, then the high ones.
__device__ __forceinline__ uint32_t nibbles(const uint8_t* q, int i) {
  return word_at(q + i % 16) >> (i < 16 ? 0 : 4) & 0x0f0f0f0f;
}
// Bit i .. i + 3 of 32, each as the fifth of a byte.
__device__ __forceinline__ uint32_t fifth_bits(const uint8_t* high, int i) {
  const uint32_t four = high[i / 8] >> (i % 8) & 15;
  return (four * 0x00204081 & 0x01010101) << 4;
}
__device__ __forceinline__ uint32_t of_table(uint32_t indices) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
  uint32_t four = 0;
#pragma unroll
  for (int bit = 0; bit < 32; bit += 8)
    four |= uint32_t{static_cast<uint8_t>(kValues[indices >> bit & 15])} << bit;
  return four;
}

// The 6-bit scale and minimum of group c of q4_K and q5_K, as scale_and_minimum() has them.
__device__ __forceinline__ void group_scales(const uint8_t* p, int c, int& scale, int& minimum) {
  if (c < 4) {
    scale = p[c] & 63;
    minimum = p[4 + c] & 63;
  } else {
    scale = (p[4 + c] & 15) | (p[c - 4] >> 6) << 4;
    minimum = p[4 + c] >> 4 | (p[c] >> 6) << 4;
  }
}

constexpr int centre_of(StoredType type) {
  return type == StoredType::q3_k   ? 4
         : type == StoredType::q4_0 ? 8
         : type == StoredType::q5_0 ? 16
         : type == StoredType::q6_k ? 32
                                    : 0;
}
constexpr bool has_minimum(StoredType type) {
  return type == StoredType::q4_1 || type == StoredType::q5_1 || type == StoredType::q2_k ||
         type == StoredType::q4_k || type == StoredType::q5_k;
}

// u of elements i .. i + 3 of the block at b, i a multiple of 4: signed bytes, the first the
// lowest.
template <StoredType kType>
__device__ __forceinline__ uint32_t four_elements(const uint8_t* b, int i) {
  const int c = i / 32, l = i % 32;
  if constexpr (kType == StoredType::q4_0) {
    return nibbles(b + 2, i);
  } else if constexpr (kType == StoredType::q4_1) {
    return nibbles(b + 4, i);
  } else if constexpr (kType == StoredType::q5_0) {
    return nibbles(b + 6, i) | fifth_bits(b + 2, i);
  } else if constexpr (kType == StoredType::q5_1) {
    return nibbles(b + 8, i) | fifth_bits(b + 4, i);
  } else if constexpr (kType == StoredType::q8_0) {
    return word_at(b + 2 + i);
  } else if constexpr (kType == StoredType::iq4_nl) {
    return of_table(nibbles(b + 2, i));
  } else if constexpr (kType == StoredType::q2_k) {
    return word_at(b + 16 + 32 * (c / 4) + l) >> (2 * (c % 4)) & 0x03030303;
  } else if constexpr (kType == StoredType::q3_k) {
    const uint32_t low = word_at(b + 32 + 32 * (c / 4) + l) >> (2 * (c % 4)) & 0x03030303;
    return low | (word_at(b + l) >> c & 0x01010101) << 2;
  } else if constexpr (kType == StoredType::q4_k || kType == StoredType::q5_k) {
    constexpr bool kFive = kType == StoredType::q5_k;
    const uint32_t low =
        word_at(b + (kFive ? 48 : 16) + 32 * (c / 2) + l) >> (4 * (c % 2)) & 0x0f0f0f0f;
    return kFive ? low | (word_at(b + 16 + l) >> c & 0x01010101) << 4 : low;
  } else if constexpr (kType == StoredType::q6_k) {
    const int half = c / 4, g = c % 4;
    const uint32_t low = word_at(b + 64 * half + 32 * (g % 2) + l) >> (4 * (g / 2)) & 0x0f0f0f0f;
    return low | (word_at(b + 128 + 32 * half + l) >> (2 * g) & 0x03030303) << 4;
  } else {
    static_assert(kType == StoredType::iq4_xs);
    return of_table(nibbles(b + 8 + 16 * c, l));
  }
}

struct PartScale {
  float scale, minimum;  // 0 where the type has none
};

// Of the 16 elements around element i of the block at b.
template <StoredType kType>
__device__ __forceinline__ PartScale scale_of_part(const uint8_t* b, int i) {
  const int c = i / 32, part = i / 16;
  if constexpr (kType == StoredType::q4_1 || kType == StoredType::q5_1) {
    return {f16_at(b), -f16_at(b + 2)};
  } else if constexpr (kType == StoredType::q2_k) {
    return {f16_at(b + 80) * static_cast<float>(b[part] & 15),
            f16_at(b + 82) * static_cast<float>(b[part] >> 4)};
  } else if constexpr (kType == StoredType::q3_k) {
    const uint8_t* packed = b + 96;
    const int low = packed[part % 8] >> (4 * (part / 8)) & 15;
    const int high = packed[8 + part % 4] >> (2 * (part / 4)) & 3;
    return {f16_at(b + 108) * static_cast<float>((low | high << 4) - 32), 0};
  } else if constexpr (kType == StoredType::q4_k || kType == StoredType::q5_k) {
    int scale, minimum;
    group_scales(b + 4, c, scale, minimum);
    return {f16_at(b) * static_cast<float>(scale), f16_at(b + 2) * static_cast<float>(minimum)};
  } else if constexpr (kType == StoredType::q6_k) {
    return {f16_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + part])), 0};
  } else if constexpr (kType == StoredType::iq4_xs) {
    const int high = b[2] | b[3] << 8, low = b[4 + c / 2] >> (4 * (c % 2)) & 15;
    return {f16_at(b) * static_cast<float>((low | (high >> (2 * c) & 3) << 4) - 32), 0};
  } else {
    return {f16_at(b), 0};
  }
}

// A type of blocks as a constant: f(BlockTag<type>{}).
template <StoredType kType_, int kElements_, int kBytes_>
struct BlockTag {
  static constexpr StoredType kType = kType_;
  static constexpr int kElements = kElements_, kBytes = kBytes_, kCentre = centre_of(kType);
  static constexpr bool kHasMinimum = has_minimum(kType);
  static __device__ __forceinline__ const uint8_t* block(const uint8_t* row, int64_t i) {
    return row + i / kElements * kBytes;
  }
  // Elements i .. i + 3 of a row of blocks, and the scale of the 16 around them.
  static __device__ __forceinline__ uint32_t four(const uint8_t* row, int64_t i) {
    return four_elements<kType>(block(row, i), static_cast<int>(i % kElements));
  }
  static __device__ __forceinline__ PartScale scale(const uint8_t* row, int64_t i) {
    return scale_of_part<kType>(block(row, i), static_cast<int>(i % kElements));
  }
  static __device__ __forceinline__ float value(const uint8_t* row, int64_t i) {
    const uint32_t four_of = four(row, i / 4 * 4);
    const int u = static_cast<int8_t>(four_of >> (8 * (i % 4)));
    const PartScale s = scale(row, i);
    const float x = s.scale * static_cast<float>(u - kCentre);
    return kHasMinimum ? x - s.minimum : x;
  }
};

template <typename F>
void dispatch_blocks(const char* kernel, StoredType type, F f) {
  switch (type) {
    case StoredType::q4_0:
      return f(BlockTag<StoredType::q4_0, 32, 18>{});
    case StoredType::q4_1:
      return f(BlockTag<StoredType::q4_1, 32, 20>{});
    case StoredType::q5_0:
      return f(BlockTag<StoredType::q5_0, 32, 22>{});
    case StoredType::q5_1:
      return f(BlockTag<StoredType::q5_1, 32, 24>{});
    case StoredType::q8_0:
      return f(BlockTag<StoredType::q8_0, 32, 34>{});
    case StoredType::iq4_nl:
      return f(BlockTag<StoredType::iq4_nl, 32, 18>{});
    case StoredType::q2_k:
      return f(BlockTag<StoredType::q2_k, 256, 84>{});
    case StoredType::q3_k:
      return f(BlockTag<StoredType::q3_k, 256, 110>{});
    case StoredType::q4_k:
      return f(BlockTag<StoredType::q4_k, 256, 144>{});
    case StoredType::q5_k:
      return f(BlockTag<StoredType::q5_k, 256, 176>{});
    case StoredType::q6_k:
      return f(BlockTag<StoredType::q6_k, 256, 210>{});
    case StoredType::iq4_xs:
      return f(BlockTag<StoredType::iq4_xs, 256, 136>{});
    default:
      fail(Fault::usage, kernel, ": no kernel for blocks of ", name_of(type), " on cuda");
  }
}

}  // namespace mullion::cuda
