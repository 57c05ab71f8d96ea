// Fibers, orders and the places where threads wait. A thread that has to wait chooses the next one
// itself and jumps there: within its warp as long as a lane is ready, then the round's next warp.
// When no warp has a ready lane the round is over: all threads stand at one barrier, which opens,
// or all have ended, or something is wrong.
#include "tensor/simt/engine.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <boost/context/detail/fcontext.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <numeric>
#include <vector>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/device_memory.h"
#include "tensor/simt/device_model.h"
#include "tensor/simt/kernel_registers.h"
#include "tensor/simt/shared_memory.h"
#include "tensor/simt/shared_shadow.h"
#include "tensor/simt/simt.h"
#include "tensor/simt/vector_types.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace mullion::simt {
namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr int kMaxThreads = Limits::kThreadsPerBlock;
constexpr unsigned kWarp = 32;
constexpr size_t kStack = 256 << 10;
constexpr int64_t kMaxGridX = (int64_t{1} << 31) - 1, kMaxGridYZ = 65535;

struct PendingCopy {
  void* shared;
  const void* global;  // null: zeros
  int group;
};
struct Lane {
  fcontext_t context = nullptr;
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
  fcontext_t main = nullptr;
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
  Lane& lane() { return *current; }
  Warp& warp() { return warps[current->index / kWarp]; }
  uint64_t next_random() {  // xorshift64*
    random ^= random >> 12, random ^= random << 25, random ^= random >> 27;
    return random * 0x2545f4914f6cdd1dULL;
  }
};
// In place, so that its address is a constant; never destroyed, as tensors may outlive main().
alignas(Engine) unsigned char engine_place[sizeof(Engine)];
inline Engine& engine() { return *reinterpret_cast<Engine*>(engine_place); }

Schedule schedule_of_environment() {
  const char* text = std::getenv("MULLION_SIMT_ORDER");
  const std::string order = text ? text : "forward";
  if (order == "backward") return {Order::backward};
  if (order == "random") return {Order::random};
  if (order.rfind("random:", 0) == 0)
    return {Order::random, std::strtoull(order.c_str() + 7, nullptr, 10)};
  CHECK(order == "forward", "MULLION_SIMT_ORDER is forward, backward, random or random:SEED, not ",
        order);
  return {};
}

std::string place_of(const Site& site) {
  const std::string file = site.file_name();
  return concat(file.substr(file.rfind('/') + 1), ":", site.line());
}

bool same_place(const Site& a, const Site& b) {
  return std::memcmp(&a, &b, sizeof a) == 0 || (a.line() == b.line() && a.column() == b.column());
}

std::string block_name() {
  return concat("block (", blockIdx.x, ", ", blockIdx.y, ", ", blockIdx.z, ")");
}

// --- changing places ---

// The place of a fiber that was left is stored by the one that was entered.
void arrive(transfer_t from) { *static_cast<fcontext_t*>(from.data) = from.fctx; }
void enter(Lane& next, fcontext_t& left) {
  engine().current = &next;
  threadIdx.x = next.index;
  arrive(jump_fcontext(next.context, &left));
}

[[noreturn]] void leave_grid() {
  Engine& e = engine();
  fcontext_t forgotten;
  jump_fcontext(e.main, &forgotten);
  std::abort();
}

std::string threads_of(const Warp& warp, unsigned lanes) {
  const auto first = static_cast<unsigned>(&warp - engine().warps) * kWarp;
  std::string text;
  for (unsigned rest = lanes; rest; rest &= rest - 1) {
    const int lane = std::countr_zero(rest);
    const int run = std::countr_one(rest >> lane);
    text += concat(text.empty() ? "" : ", ", first + static_cast<unsigned>(lane));
    if (run > 1) text += concat("-", first + static_cast<unsigned>(lane + run - 1));
    for (int skipped = 1; skipped < run; ++skipped) rest &= rest - 1;
  }
  return text;
}

// Who waits for whom, when nobody can go on.
std::string stuck_threads() {
  Engine& e = engine();
  std::string text;
  for (unsigned w = 0; w < e.warp_count; ++w) {
    Warp& warp = e.warps[w];
    if (warp.arrived) {
      const Lane& waiting =
          e.lanes[w * kWarp + static_cast<unsigned>(std::countr_zero(warp.arrived))];
      const unsigned missing = warp.mask[std::countr_zero(warp.arrived)] & ~warp.arrived;
      return concat(waiting.waits_in, " at ", place_of(waiting.site), ": threads ",
                    threads_of(warp, warp.arrived), " wait for ", threads_of(warp, missing));
    }
  }
  for (unsigned w = 0; w < e.warp_count; ++w) {
    const unsigned threads = static_cast<unsigned>(e.launch.threads) - w * kWarp;
    const unsigned all = threads >= kWarp ? ~0u : (1u << threads) - 1;
    if (const unsigned ended = all & ~e.warps[w].live)
      text += concat(text.empty() ? "" : ", ", threads_of(e.warps[w], ended));
  }
  return concat("barrier at ", place_of(e.barrier_site), ": not reached by threads ", text,
                ", which have ended");
}

inline unsigned chosen(unsigned ready) {
  Engine& e = engine();
  switch (e.schedule.order) {
    case Order::forward:
      return static_cast<unsigned>(std::countr_zero(ready));
    case Order::backward:
      return 31u - static_cast<unsigned>(std::countl_zero(ready));
    case Order::random:
      break;
  }
  auto skip = static_cast<unsigned>(
      (e.next_random() >> 32) * static_cast<unsigned>(std::popcount(ready)) >> 32);
  while (skip--) ready &= ready - 1;
  return static_cast<unsigned>(std::countr_zero(ready));
}

void begin_round() {
  Engine& e = engine();
  e.turn = 0;
  if (e.schedule.order != Order::random) return;
  for (unsigned w = e.warp_count; w > 1; --w)
    std::swap(e.round[w - 1], e.round[(e.next_random() >> 33) % w]);
}

// All threads that have not ended stand at the barrier.
void open_barrier() {
  Engine& e = engine();
  if (e.at_barrier != e.launch.threads) report(stuck_threads());
  e.barrier_result = e.predicates;
  e.at_barrier = e.predicates = 0;
  shadow_barrier();
  if (counting_accesses) count_block();
  for (unsigned w = 0; w < e.warp_count; ++w) e.warps[w].ready = e.warps[w].live;
  begin_round();
}

// Called by a thread that cannot go on: returns when it can. Inlined, because the processor
// predicts a return after a change of fibers wrongly.
__attribute__((always_inline)) inline void give_way() {
  Engine& e = engine();
  Lane& me = *e.current;
  for (;;) {
    Warp& warp = e.warps[e.round[e.turn]];
    if (warp.ready) {
      Lane& next = e.lanes[e.round[e.turn] * kWarp + chosen(warp.ready)];
      if (&next != &me) enter(next, me.context);
      return;
    }
    if (++e.turn < e.warp_count) continue;
    if (e.live > 0) {
      open_barrier();
      continue;
    }
    arrive(jump_fcontext(e.main, &me.context));  // the block is done; back for another one
    return;
  }
}

// --- a thread's life ---

void write_copies(Lane& lane, int groups) {
  size_t done = 0;
  while (done < lane.copies.size() && lane.copies[done].group < groups) {
    const PendingCopy& copy = lane.copies[done++];
    if (copy.global)
      std::memcpy(copy.shared, copy.global, 16);
    else
      std::memset(copy.shared, 0, 16);
    end_of_copy(copy.shared, 16);
  }
  lane.copies.erase(lane.copies.begin(), lane.copies.begin() + static_cast<std::ptrdiff_t>(done));
}

// At a thread's end: copies of a group are made, those of none are a fault.
void end_copies(Lane& lane) {
  if (lane.copies.empty()) return;
  if (const PendingCopy& last = lane.copies.back(); last.group == lane.groups)
    report(concat("ends with a cp.async into ", describe_address(last.shared),
                  " that was never committed"));
  write_copies(lane, lane.groups);
}

void live_as_fiber(transfer_t from) {
  arrive(from);
  Engine& e = engine();
  for (;;) {
    try {
      e.launch.body(e.launch.arguments);
    } catch (const std::exception& error) {
      report(concat("an exception left the kernel: ", error.what()));
    }
    Lane& lane = *e.current;
    end_copies(lane);
    Warp& warp = e.warp();
    const unsigned bit = 1u << (lane.index % kWarp);
    warp.live &= ~bit, warp.ready &= ~bit;
    --e.live;
    give_way();
  }
}

// Stacks begin at different offsets in their pages, lest the hot ends of all of them fall on the
// same few sets of the cache.
void make_fibers(int count) {
  Engine& e = engine();
  const size_t page = e.page;
  if (!e.stacks) {
    void* memory = mmap(nullptr, kMaxThreads * (kStack + page), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(memory != MAP_FAILED, "the emulator got no memory for stacks");
    e.stacks = static_cast<unsigned char*>(memory);
    for (size_t i = 0; i < kMaxThreads; ++i)
      mprotect(e.stacks + i * (kStack + page), page, PROT_NONE);
  }
  for (; e.made < count; ++e.made) {
    const auto i = static_cast<size_t>(e.made);
    const size_t offset = i * 832 % page;
    unsigned char* top = e.stacks + (i + 1) * (kStack + page) - offset;
    e.lanes[i].context = make_fcontext(top, kStack - offset, live_as_fiber);
    e.lanes[i].index = static_cast<unsigned>(i);
  }
}

void run_block(int64_t block) {
  Engine& e = engine();
  const Launch& l = e.launch;
  blockIdx = {static_cast<unsigned>(block % l.grid_x),
              static_cast<unsigned>(block / l.grid_x % l.grid_y),
              static_cast<unsigned>(block / l.grid_x / l.grid_y)};
  ++SharedVariable::current_block;
  shadow_barrier();
  begin_shared_memory(l.shared_bytes, limits_of(l.device).shared_per_block);
  for (unsigned w = 0; w < e.warp_count; ++w) {
    const unsigned threads = static_cast<unsigned>(l.threads) - w * kWarp;
    Warp& warp = e.warps[w];
    warp.live = warp.ready = threads >= kWarp ? ~0u : (1u << threads) - 1;
    warp.arrived = 0;
  }
  for (int i = 0; i < l.threads; ++i) e.lanes[i].groups = 0;
  e.live = l.threads;
  e.at_barrier = e.predicates = 0;
  begin_round();
  const unsigned first = e.round[0];
  e.running = true;
  enter(e.lanes[first * kWarp + chosen(e.warps[first].ready)], e.main);
  e.running = false;
  if (!e.finding.empty()) return;
  if (counting_accesses) count_block();
  if (const std::string damage = damaged_shared_memory(); !damage.empty())
    e.finding = concat(l.kernel, ": ", block_name(), ": ", damage);
}

// --- illegal accesses ---

struct sigaction action_before[2];

// A fault of device code ends the grid: the handler leaves its own stack for good by a jump, which
// SA_NODEFER allows.
void on_fault(int signal, siginfo_t* info, void* context) {
  if (open_for_device(info->si_addr)) return;
  Engine& e = engine();
  if (e.running) {
    const auto* address = static_cast<const unsigned char*>(info->si_addr);
    const auto* first = e.stacks;
    if (address >= first && address < first + kMaxThreads * (kStack + e.page))
      report("the stack overflows: an array of this thread is too large");
    report(concat("illegal access to ", describe_address(address)));
  }
  if (is_device_pointer(info->si_addr))
    std::fprintf(stderr, "the host touches device memory: %s\n",
                 describe_address(info->si_addr).c_str());
  const struct sigaction& before = action_before[signal == SIGBUS];
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(signal, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
  } else {
    sigaction(signal, &before, nullptr);  // the access is made again, and now it is fatal
  }
}

Engine::Engine() : schedule(schedule_of_environment()) {
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigaction(SIGSEGV, &action, &action_before[0]);
  sigaction(SIGBUS, &action, &action_before[1]);
}

[[maybe_unused]] Engine* const made = new (engine_place) Engine;

// Handlers need a stack of their own: the fault may be an overflow of the fiber's.
struct HandlerStack {
  static constexpr size_t kBytes = 64 << 10;
  HandlerStack() {
    stack_t stack{};
    stack.ss_sp = memory.data();
    stack.ss_size = memory.size();
    sigaltstack(&stack, &before);
  }
  ~HandlerStack() { sigaltstack(&before, nullptr); }
  HandlerStack(const HandlerStack&) = delete;
  static inline std::vector<unsigned char> memory = std::vector<unsigned char>(kBytes);
  stack_t before{};
};

}  // namespace

void report(std::string what) {
  Engine& e = engine();
  if (!e.running) throw Finding(what);
  e.running = false;
  e.made = 0;  // the fibers stand somewhere in the middle: they are made anew
  for (Lane& lane : e.lanes) {
    for (const PendingCopy& copy : lane.copies) end_of_copy(copy.shared, 16);
    lane.copies.clear();
  }
  e.finding = concat(e.launch.kernel, ": ", block_name(), ", thread ", threadIdx.x, ": ", what);
  leave_grid();
}

void run(const Launch& launch) {
  Engine& e = engine();
  std::lock_guard lock(e.one_grid_at_a_time);
  const int64_t blocks = launch.grid_x * launch.grid_y * launch.grid_z;
  const auto refuse = [&](bool ok, const auto&... what) {
    if (!ok) throw Finding(concat(launch.kernel, ": ", what...));
  };
  refuse(launch.threads >= 1 && launch.threads <= Limits::kThreadsPerBlock, launch.threads,
         " threads a block; 1 to ", Limits::kThreadsPerBlock, " are possible");
  refuse(launch.grid_x >= 1 && launch.grid_x <= kMaxGridX && launch.grid_y >= 1 &&
             launch.grid_y <= kMaxGridYZ && launch.grid_z >= 1 && launch.grid_z <= kMaxGridYZ,
         "a grid of ", launch.grid_x, " x ", launch.grid_y, " x ", launch.grid_z, " blocks");
  const size_t shared_limit = limits_of(launch.device).shared_per_block;
  refuse(launch.shared_bytes <= shared_limit, launch.shared_bytes,
         " bytes of shared memory; a block has ", shared_limit);
  const std::string too_many = why_too_many_threads(launch.function, launch.threads);
  refuse(too_many.empty(), too_many);
  const HandlerStack handler_stack;
  count_run(launch.kernel);
  if (counting_accesses) count_launch(launch.kernel);
  e.launch = launch;
  e.random = e.schedule.seed * 0x9e3779b97f4a7c15ULL | 1;
  e.warp_count = (static_cast<unsigned>(launch.threads) + kWarp - 1) / kWarp;
  std::iota(e.round, e.round + e.warp_count, 0u);
  if (e.schedule.order == Order::backward) std::reverse(e.round, e.round + e.warp_count);
  gridDim = dim3(static_cast<unsigned>(launch.grid_x), static_cast<unsigned>(launch.grid_y),
                 static_cast<unsigned>(launch.grid_z));
  blockDim = dim3(static_cast<unsigned>(launch.threads));
  threadIdx = {0, 0, 0};
  e.finding.clear();
  make_fibers(launch.threads);

  // A random order is i -> (a i + b) mod blocks with a coprime to their number.
  int64_t step = 1, start = 0;
  if (e.schedule.order == Order::random && blocks > 1) {
    start = static_cast<int64_t>(e.next_random() >> 1) % blocks;
    do
      step =
          1 + static_cast<int64_t>(e.next_random() >> 1) % (blocks < (1 << 30) ? blocks : 1 << 30);
    while (std::gcd(step, blocks) != 1);
  }
  for (int64_t i = 0; i < blocks && e.finding.empty(); ++i)
    run_block(e.schedule.order == Order::backward ? blocks - 1 - i : (start + i * step) % blocks);
  if (!e.finding.empty()) throw Finding(e.finding);
  check_device_zones(concat(", by ", launch.kernel));
}

int barrier(bool predicate, Site site) {
  Engine& e = engine();
  if (!e.running) report("__syncthreads outside of a kernel");
  Lane& lane = *e.current;
  if (e.at_barrier == 0) {
    e.barrier_site = site;
  } else if (!same_place(e.barrier_site, site)) {
    report(concat("barrier at ", place_of(site), ", while ", e.at_barrier,
                  " threads of the block wait at the barrier at ", place_of(e.barrier_site)));
  }
  ++e.at_barrier;
  e.predicates += predicate ? 1 : 0;
  e.warp().ready &= ~(1u << (lane.index % kWarp));
  give_way();
  return e.barrier_result;
}

int lane_index() { return static_cast<int>(threadIdx.x % kWarp); }

void warp_operation(const char* name, unsigned mask, void* request, Combine combine, Site site,
                    bool exited_allowed) {
  Engine& e = engine();
  if (!e.running) report(concat(name, " outside of a kernel"));
  Lane& lane = *e.current;
  Warp& warp = e.warp();
  const unsigned index = lane.index % kWarp, bit = 1u << index;
  if (!(mask & bit))
    report(concat(name, " at ", place_of(site), ": the mask does not name the thread itself"));
  if (exited_allowed) mask &= warp.live;
  lane.waits_in = name;
  lane.site = site;
  warp.mask[index] = mask;
  warp.request[index] = request;
  warp.arrived |= bit;
  warp.ready &= ~bit;
  if ((warp.arrived & mask) == mask) {
    const unsigned first = lane.index - index;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
      const auto other = static_cast<unsigned>(std::countr_zero(rest));
      const Lane& theirs = e.lanes[first + other];
      if (theirs.waits_in != name || warp.mask[other] != mask || !same_place(theirs.site, site))
        report(concat(name, " at ", place_of(site), " with mask ", mask, " meets thread ",
                      theirs.index, " in ", theirs.waits_in, " at ", place_of(theirs.site),
                      " with mask ", warp.mask[other]));
    }
    combine(warp.request, mask);
    if (counting_accesses && mask == warp.live) count_warp(lane.index / kWarp);
    warp.arrived &= ~mask;
    warp.ready |= mask;
  }
  give_way();
}

void check_aligned(const char* operation, const void* address, size_t alignment) {
  if (reinterpret_cast<uintptr_t>(address) % alignment == 0) return;
  report(concat(operation, ": misaligned address: ", describe_address(address),
                " is not a multiple of ", alignment));
}

void async_copy(void* shared, const void* global, bool valid) {
  check_shared("cp.async", shared, 16, 16);
  if (valid) check_aligned("cp.async", global, 16);
  if (counting_accesses) {
    if (valid) count_access(__builtin_return_address(0), global, 16, false);
    count_access(__builtin_return_address(0), shared, 16, true);
  }
  begin_copy(shared, 16);
  std::memset(shared, 0xff, 16);
  Lane& lane = *engine().current;
  lane.copies.push_back({shared, valid ? global : nullptr, lane.groups});
}
void async_commit() { ++engine().current->groups; }
void async_wait(int pending) {
  Lane& lane = *engine().current;
  if (!lane.copies.empty()) write_copies(lane, lane.groups - pending);
}

void set_schedule(Schedule schedule) { engine().schedule = schedule; }
Schedule schedule() { return engine().schedule; }

void count_run(const char* what) {
  if (engine().counts) engine().counts->add(what);
}
LaunchCounts::LaunchCounts() { engine().counts = this; }
LaunchCounts::~LaunchCounts() { engine().counts = nullptr; }

}  // namespace mullion::simt
