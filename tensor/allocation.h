// How the allocator (storage.cc) takes memory of a device, in figures that estimates of a
// training's memory count with as well.
#pragma once
#include <cstdint>

#include "tensor/storage.h"

namespace mullion {

// Freed blocks are kept as long as, with the live ones, they stay below the most that was ever live
// plus so many bytes: a training step then finds every block of the step before, and no memory is
// held that was not needed once. Of the CPU.
constexpr int64_t kFreedKept = 64 << 20;

constexpr int64_t kSmallBlock = 64 << 10;  // below it malloc's own cache is good enough

// What a storage of so many bytes takes: blocks are of whole units, large ones of the CPU of pages.
constexpr int64_t allocated_bytes(int64_t bytes, DeviceType device = DeviceType::cpu) {
  const int64_t unit = device != DeviceType::cpu ? 256 : bytes >= kSmallBlock ? 4096 : 64;
  return ((bytes > 0 ? bytes : 1) + unit - 1) / unit * unit;
}

}  // namespace mullion
