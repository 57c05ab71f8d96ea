// How much freed memory the CPU's allocator keeps for requests to come (storage.cc); what estimates
// of a training's memory count with as well.
#pragma once
#include <cstdint>

namespace mullion {

// Freed blocks are kept as long as, with the live ones, they stay below the most that was ever live
// plus so many bytes: a training step then finds every block of the step before, and no memory is
// held that was not needed once.
constexpr int64_t kFreedKept = 64 << 20;

}  // namespace mullion
