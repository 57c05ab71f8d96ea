// What the readers and writers of blocks share: numbers at any address, and the 6-bit scales of
// q4_K and q5_K.
#pragma once
#ifdef __F16C__
#include <immintrin.h>
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensor/dtype.h"

namespace mullion {

template <typename T>
T load(const std::byte* src) {
  T value;
  std::memcpy(&value, src, sizeof(T));
  return value;
}

template <typename T>
std::byte* put(std::byte* dst, T value) {
  std::memcpy(dst, &value, sizeof(T));
  return dst + sizeof(T);
}

inline float load_f16(const std::byte* src) {
#ifdef __F16C__
  return _cvtsh_ss(load<uint16_t>(src));
#else
  return static_cast<float>(load<f16>(src));
#endif
}

struct ScaleAndMinimum {
  int scale, minimum;  // 0 to 63
};

// Of group c of 8, from their 12 bytes: the first four groups have 6 bits in bytes c and 4 + c; the
// others 4 bits each in byte 4 + c, and their upper 2 bits on top of bytes c - 4 and c.
inline ScaleAndMinimum scale_and_minimum(const std::byte* packed, int c) {
  const auto byte = [packed](int i) { return static_cast<int>(packed[i]); };
  if (c < 4) return {byte(c) & 63, byte(4 + c) & 63};
  return {(byte(4 + c) & 15) | (byte(c - 4) >> 6) << 4, byte(4 + c) >> 4 | (byte(c) >> 6) << 4};
}

inline void pack_scale_and_minimum(std::byte* packed, int c, ScaleAndMinimum value) {
  const auto add = [packed](int i, int bits) { packed[i] |= static_cast<std::byte>(bits); };
  if (c < 4) {
    add(c, value.scale);
    add(4 + c, value.minimum);
    return;
  }
  add(4 + c, (value.scale & 15) | (value.minimum & 15) << 4);
  add(c - 4, (value.scale >> 4) << 6);
  add(c, (value.minimum >> 4) << 6);
}

}  // namespace mullion
