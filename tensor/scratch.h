// Scratch memory of the kernels: one growing buffer for each thread and slot, kept between calls so
// that a kernel allocates only the first time it meets a larger problem.
#pragma once
#include <cstddef>

namespace mullion {

constexpr int kScratchSlots = 8;

// At least n floats, aligned to 64 bytes, with undefined contents. Valid on the calling thread
// until its next call with the same slot (0 <= slot < kScratchSlots).
float* thread_scratch(size_t n, int slot);

}  // namespace mullion
