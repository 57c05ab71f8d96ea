// What a kernel's accesses to memory cost on a device, counted by instructions of a warp:
//
//   shared memory: passes over its 32 banks of 4 bytes. Lanes that want different words of one bank
//     wait for each other; the same word is read once. 32 lanes go together where each wants at
//     most 4 bytes, 16 where it wants 8, 8 where it wants 16; each of the matrices of ldmatrix is a
//     pass of its own. The least is a pass for each such group.
//   global memory: sectors of 32 bytes that the lanes touch. The least is what their bytes, each
//     counted once, would fill. Caches are left out; cp.async counts as a read here, and as a write
//     of shared memory.
//
// Lanes belong to one instruction where they come by the same place in the code equally often since
// the warp was last together (at a barrier or an operation of all its lanes). Compiled by another
// compiler for another processor, what is one access here may be two on a device, or the reverse,
// except those of load_vector(), store_vector(), ldmatrix and cp.async.
//
// Off by default. MULLION_SIMT_COUNTERS=1 prints a table of all kernels at the end of the program,
// MULLION_SIMT_COUNTERS=places the places with more than the least as well.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace mullion::simt {

enum class Counted { shared_read, shared_write, global_read, global_write };

struct AccessCount {
  int64_t instructions = 0;      // of a warp
  int64_t taken = 0, least = 0;  // passes or sectors
  void add(const AccessCount& other);
};

struct KernelAccesses {
  int64_t launches = 0;
  // By the address of the instruction after the access.
  std::map<uintptr_t, AccessCount> places[4];
  AccessCount total(Counted what) const;
};

// Counts while it lives.
class AccessCounters {
 public:
  AccessCounters();
  ~AccessCounters();
  AccessCounters(const AccessCounters&) = delete;

  // By the name of its launch; of all that have run.
  KernelAccesses of(const std::string& kernel) const;
  const std::map<std::string, KernelAccesses>& kernels() const { return kernels_; }
  KernelAccesses& at(const char* kernel) { return kernels_[kernel]; }

 private:
  std::map<std::string, KernelAccesses> kernels_;
  AccessCounters* before_;
};

// Lines of Markdown; `places`: those of a kernel that take more than the least, worst first, as
// addresses for addr2line.
std::string table_of_accesses(const std::map<std::string, KernelAccesses>& kernels);
std::string places_of_accesses(const KernelAccesses& kernel, size_t at_most);

// ---- for the engine, by the thread that runs

extern bool counting_accesses;
void count_launch(const char* kernel);
void count_access(const void* place, const void* address, size_t bytes, bool writes);
void count_matrix(const void* place, const void* const (&rows)[8]);
void count_warp(unsigned warp);  // its lanes are together
void count_block();              // all are

}  // namespace mullion::simt
