// What the parts of the engine share: the threads of the block that runs, as fibers, and where each
// of them waits. engine.cc changes places between them, grid.cc runs block after block,
// async_copies.cc keeps the copies under way, report.cc gives a grid up.
#pragma once
#include <signal.h>
#include <unistd.h>

#include <boost/context/detail/fcontext.hpp>
#include <mutex>
#include <string>
#include <vector>

#include "tensor/simt/device_model.h"
#include "tensor/simt/engine.h"
#include "tensor/simt/simt.h"

namespace mullion::simt {

constexpr int kMaxThreads = Limits::kThreadsPerBlock;
constexpr unsigned kWarp = 32;
constexpr size_t kStack = 256 << 10;  // bytes of a fiber's, after an inaccessible page

struct PendingCopy {
  void* shared;
  const void* global;  // null: zeros
  int group;
};
struct Lane {
  boost::context::detail::fcontext_t context = nullptr;
  unsigned index = 0;
  int groups = 0;  // committed groups of copies
  std::vector<PendingCopy> copies;
  const char* waits_in = nullptr;  // what it waits for, and where
  Site site;
};
struct Warp {
  unsigned live = 0, ready = 0, arrived = 0;  // lanes that have not ended; can run; wait for lanes
  unsigned mask[kWarp] = {};
  void* request[kWarp] = {};
};

struct Engine {
  std::mutex one_grid_at_a_time;
  Schedule schedule;
  uint64_t random = 0;
  bool running = false;
  LaunchCounts* counts = nullptr;

  Launch launch{};
  boost::context::detail::fcontext_t main = nullptr;
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  unsigned char* stacks = nullptr;  // each after an inaccessible page
  int made = 0;                     // fibers that exist
  Lane lanes[kMaxThreads];
  Lane* current = nullptr;

  Warp warps[kMaxThreads / kWarp];
  unsigned round[kMaxThreads / kWarp] = {};  // the order of warps
  unsigned warp_count = 0, turn = 0;         // round[turn] is the warp that runs
  int live = 0;
  int at_barrier = 0, predicates = 0, barrier_result = 0;
  Site barrier_site;
  std::string finding;

  Engine();
  Warp& warp() { return warps[current->index / kWarp]; }
  uint64_t next_random() {  // xorshift64*
    random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
    return random * 0x2545f4914f6cdd1dULL;
  }
};
// In place, so that its address is a constant; never destroyed, as tensors may outlive main().
alignas(Engine) extern unsigned char engine_place[sizeof(Engine)];
inline Engine& engine() { return *reinterpret_cast<Engine*>(engine_place); }

// Makes fibers for threads that have none yet.
void make_fibers(int count);
// Runs the threads of a block, all of which can, until the last has ended or a fault was found.
void run_threads();
// Ends the grid: back to run_threads(), for good.
[[noreturn]] void leave_grid();

// At a thread's end: copies of a group are made, those of none are a fault.
void end_copies(Lane& lane);
// Of a grid that is given up.
void forget_copies(Lane& lane);

void catch_illegal_accesses();
// A stack for handlers of signals: the fault may be an overflow of the fiber's own.
struct HandlerStack {
  HandlerStack();
  ~HandlerStack();
  HandlerStack(const HandlerStack&) = delete;
  stack_t before{};
};
std::string block_name();  // "block (0, 0, 0)", of the block that runs

}  // namespace mullion::simt
