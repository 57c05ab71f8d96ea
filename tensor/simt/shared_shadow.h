// Which thread touched which byte of shared memory, and when: two threads that touch the same byte,
// one of them writing, need a barrier between, or, within a warp, a __syncwarp of both. Shuffles
// and votes order no memory. Bytes of a copy under way (cp.async) are nobody's to touch until the
// wait that covers it. A fault is a Finding.
//
// The compiler tells each access of a kernel (tensor/simt/access_hooks.cc); the intrinsics tell
// theirs.
#pragma once
#include <cstddef>
#include <cstdint>

namespace mullion::simt {

enum class Access { read, write, atomic };  // atomics do not race with each other

// Where shared memory lies; the hooks ask it first, since most accesses go elsewhere.
struct SharedSpan {
  uintptr_t first = 0, bytes = 0;
  bool holds(const void* p) const { return reinterpret_cast<uintptr_t>(p) - first < bytes; }
};
extern SharedSpan shared_span;
void watch_shared(void* first, size_t bytes);  // once

// By the thread that runs.
void touch_shared(const void* address, size_t bytes, Access access);
// Read by all lanes of the running thread's warp (ldmatrix).
void read_by_warp(const void* address, size_t bytes);
// cp.async by the running thread: a write that lasts until `end_of_copy`.
void begin_copy(const void* address, size_t bytes);
void end_of_copy(const void* address, size_t bytes);

void shadow_barrier();  // of all threads; also the begin of a block
void shadow_syncwarp(unsigned warp, unsigned lanes);

}  // namespace mullion::simt
