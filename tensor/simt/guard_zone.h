// The mark of a guard zone: NaN as bf16 and as f32, so that a value read from it shows, and unlike
// any poison, so that a write to it shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mullion::simt {

constexpr unsigned char kMark[2] = {0xa5, 0x7f};

// `first` may be at any address; the mark's phase is that of the address.
inline void mark_zone(unsigned char* first, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) first[i] = kMark[(reinterpret_cast<uintptr_t>(first) + i) % 2];
}
inline bool zone_is_intact(const unsigned char* first, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i)
    if (first[i] != kMark[(reinterpret_cast<uintptr_t>(first) + i) % 2]) return false;
  return true;
}

}  // namespace mullion::simt
