// How the allocator (storage.cc) takes memory of a device, in figures that estimates of a
// training's memory count with as well.
#pragma once
#include <algorithm>
#include <cstdint>

#include "tensor/storage.h"

namespace mullion {

// Freed blocks of the CPU are kept for the next ones as long as all of them together take no more
// than the most that ever lived and so many bytes: a training step then finds nearly every block of
// the step before, and what a process holds follows from what lives in it.
constexpr int64_t kept_beyond(int64_t most_live) {
  constexpr int64_t kLeast = 6 << 20, kMost = 64 << 20;  // the least for the steps of tiny models
  return std::clamp(most_live / 8, kLeast, kMost);
}

constexpr int64_t kSmallBlock = 64 << 10;  // below it malloc's own cache is good enough

// What a storage of so many bytes takes: blocks are of whole units, large ones of the CPU of pages.
constexpr int64_t allocated_bytes(int64_t bytes, DeviceType device = DeviceType::cpu) {
  const int64_t unit = device != DeviceType::cpu ? 256 : bytes >= kSmallBlock ? 4096 : 64;
  return ((bytes > 0 ? bytes : 1) + unit - 1) / unit * unit;
}

}  // namespace mullion
