// An element of a block, for each type of tensor/io/stored_type.h; the formulas stand there and in
// k_blocks.cc.
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

__device__ __forceinline__ int nibble(const uint8_t* q, int i) {  // of 32, low ones first
  return i < 16 ? q[i] & 15 : q[i - 16] >> 4;
}
__device__ __forceinline__ int fifth_bit(const uint8_t* high, int i) {
  return (high[i / 8] >> (i % 8) & 1) << 4;
}
__device__ __forceinline__ float of_table(int index) {
  constexpr int8_t kValues[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                  1,    13,   25,  38,  53,  69,  89,  113};
  return static_cast<float>(kValues[index]);
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

// Element i of the block at b.
template <StoredType kType>
__device__ __forceinline__ float block_value(const uint8_t* b, int i) {
  const int c = i / 32, l = i % 32;
  if constexpr (kType == StoredType::q4_0) {
    return f16_at(b) * static_cast<float>(nibble(b + 2, i) - 8);
  } else if constexpr (kType == StoredType::q4_1) {
    return f16_at(b) * static_cast<float>(nibble(b + 4, i)) + f16_at(b + 2);
  } else if constexpr (kType == StoredType::q5_0) {
    return f16_at(b) * static_cast<float>((nibble(b + 6, i) | fifth_bit(b + 2, i)) - 16);
  } else if constexpr (kType == StoredType::q5_1) {
    return f16_at(b) * static_cast<float>(nibble(b + 8, i) | fifth_bit(b + 4, i)) + f16_at(b + 2);
  } else if constexpr (kType == StoredType::q8_0) {
    return f16_at(b) * static_cast<float>(static_cast<int8_t>(b[2 + i]));
  } else if constexpr (kType == StoredType::iq4_nl) {
    return f16_at(b) * of_table(nibble(b + 2, i));
  } else if constexpr (kType == StoredType::q2_k) {
    const int both = b[2 * c + l / 16];
    const int q = b[16 + 32 * (c / 4) + l] >> (2 * (c % 4)) & 3;
    return f16_at(b + 80) * static_cast<float>(both & 15) * static_cast<float>(q) -
           f16_at(b + 82) * static_cast<float>(both >> 4);
  } else if constexpr (kType == StoredType::q3_k) {
    const uint8_t* packed = b + 96;
    const int j = 2 * c + l / 16;
    const int low = packed[j % 8] >> (4 * (j / 8)) & 15;
    const int high = packed[8 + j % 4] >> (2 * (j / 4)) & 3;
    const int q = (b[32 + 32 * (c / 4) + l] >> (2 * (c % 4)) & 3) - 4 * (1 - (b[l] >> c & 1));
    return f16_at(b + 108) * static_cast<float>((low | high << 4) - 32) * static_cast<float>(q);
  } else if constexpr (kType == StoredType::q4_k || kType == StoredType::q5_k) {
    constexpr bool kFive = kType == StoredType::q5_k;
    int scale, minimum;
    group_scales(b + 4, c, scale, minimum);
    int q = b[(kFive ? 48 : 16) + 32 * (c / 2) + l] >> (4 * (c % 2)) & 15;
    if (kFive) q |= (b[16 + l] >> c & 1) << 4;
    return f16_at(b) * static_cast<float>(scale) * static_cast<float>(q) -
           f16_at(b + 2) * static_cast<float>(minimum);
  } else if constexpr (kType == StoredType::q6_k) {
    const int half = c / 4, g = c % 4;
    const int low = b[64 * half + 32 * (g % 2) + l] >> (4 * (g / 2)) & 15;
    const int high = b[128 + 32 * half + l] >> (2 * g) & 3;
    return f16_at(b + 208) * static_cast<float>(static_cast<int8_t>(b[192 + 2 * c + l / 16])) *
           static_cast<float>((low | high << 4) - 32);
  } else {
    static_assert(kType == StoredType::iq4_xs);
    const int high = b[2] | b[3] << 8, low = b[4 + c / 2] >> (4 * (c % 2)) & 15;
    const int scale = (low | (high >> (2 * c) & 3) << 4) - 32;
    return f16_at(b) * static_cast<float>(scale) * of_table(nibble(b + 8 + 16 * c, l));
  }
}

// A type of blocks as a constant: f(BlockTag<type>{}).
template <StoredType kType_, int kElements_, int kBytes_>
struct BlockTag {
  static constexpr StoredType kType = kType_;
  static constexpr int kElements = kElements_, kBytes = kBytes_;
  // Element i of a row of blocks.
  static __device__ __forceinline__ float value(const uint8_t* row, int64_t i) {
    return block_value<kType>(row + i / kElements * kBytes, static_cast<int>(i % kElements));
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
