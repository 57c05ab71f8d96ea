// The engine of the emulator: what compiled device code calls. A grid runs block by block; the
// threads of a block are fibers on the caller's thread, which change places only where a thread has
// to wait: at a barrier, at an operation of a warp, at its end. In between a thread runs alone, so
// an order of threads (simt.h) decides who reads before whom, and a missing barrier shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "tensor/check.h"

struct uint3 {
  unsigned x, y, z;
};
extern uint3 threadIdx, blockIdx;  // of the thread that runs now

namespace mullion::simt {

using Site = std::source_location;  // where in the source a thread waits

// What the emulator found: a fault of a kernel or of a call, with kernel, block and thread.
struct Finding : Error {
  explicit Finding(const std::string& what) : Error(what, Fault::memory) {}
};

// In device code: gives up the grid and reports kernel, block, thread and `what` as a Finding
// thrown by the launch. In host code: throws the Finding.
[[noreturn]] void report(std::string what);

struct Launch {
  const char* kernel;
  const void* function;  // the address of the kernel
  int device;
  int64_t grid_x, grid_y, grid_z;
  int threads;
  size_t shared_bytes;
  void (*body)(const void* arguments);  // one thread of the kernel
  const void* arguments;
};
void count_run(const char* what);  // for LaunchCounts (simt.h)
// Runs a grid; returns when all its blocks are done.
void run(const Launch& launch);

// All threads of the block, from the same place in the source. Returns how many predicates were
// true.
int barrier(bool predicate, Site site);

// An operation of the lanes in `mask`: each hands in its request; when all have come, `combine`
// gets the requests by lane and writes the results into them; then all go on. `exited_allowed`:
// lanes that have ended count as arrived.
using Combine = void (*)(void* const* requests, unsigned mask);
void warp_operation(const char* name, unsigned mask, void* request, Combine combine, Site site,
                    bool exited_allowed = false);
int lane_index();  // 0 .. 31

// A __shared__ variable: the first thread of a block that comes by gets it a place between guard
// zones, filled with 0xff.
class SharedVariable {
 public:
  SharedVariable(const char* name, size_t bytes, size_t alignment)
      : name_(name), bytes_(bytes), alignment_(alignment) {}
  void* in_this_block() {
    if (block_ != current_block) place();
    return place_;
  }
  static uint64_t current_block;  // counts all blocks of all grids

 private:
  void place();
  const char* name_;
  size_t bytes_, alignment_;
  uint64_t block_ = 0;
  void* place_ = nullptr;
};
void* dynamic_shared();
// Reports where `bytes` at `address` are not all shared memory of this block, or not aligned.
void check_shared(const char* operation, const void* address, size_t bytes, size_t alignment);
// Reports a misaligned address.
void check_aligned(const char* operation, const void* address, size_t alignment);

// cp.async, 16 bytes: the target is poisoned at once and written as late as allowed, when the
// thread waits for the copy's group or ends. Not `valid`: zeros, and the source is not read.
void async_copy(void* shared, const void* global, bool valid);
void async_commit();
void async_wait(int groups_that_may_be_pending);

}  // namespace mullion::simt
