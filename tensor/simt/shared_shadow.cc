// Time is a count of barriers and warp barriers. A record is older than the last barrier of the
// block, and of no concern, or its thread is asked for: another warp's is a race, one of the same
// warp's is none if a __syncwarp of both came later, which `seen` knows.
#include "tensor/simt/shared_shadow.h"

#include <algorithm>
#include <bit>
#include <vector>

#include "tensor/simt/engine.h"
#include "tensor/simt/shared_memory.h"

namespace mullion::simt {

SharedSpan shared_span;

namespace {

constexpr unsigned kWarp = 32, kAllLanes = ~0u;
// A record: time | atomic | pending | thread (of a writer) or warp (of readers).
constexpr unsigned kTimeShift = 12;
constexpr uint32_t kWho = 1023, kPending = 1024, kAtomic = 2048, kManyWarps = 32;
constexpr uint32_t kEndOfTime = (1u << (32 - kTimeShift)) - 2;

struct Shadow {
  std::vector<uint32_t> writer, readers, lanes;  // a byte each; lanes: which of the readers' warp
  uint32_t now = 1, barrier = 1;
  uint32_t seen[kWarp][kWarp][kWarp] = {};  // of a warp: [lane][of lane], accesses before it
};
Shadow shadow;

uint32_t at_time(uint32_t time) { return time << kTimeShift; }

void tick() {
  if (++shadow.now < kEndOfTime) return;
  for (auto* cells : {&shadow.writer, &shadow.readers}) std::fill(cells->begin(), cells->end(), 0u);
  for (auto& warp : shadow.seen)
    for (auto& row : warp) std::fill(std::begin(row), std::end(row), 0u);
  shadow.now = shadow.barrier = 1;
}

// Whether all of `lanes` know what `other` of their warp did at `time`.
bool all_have_seen(unsigned warp, unsigned lanes, unsigned other, uint32_t time) {
  for (; lanes; lanes &= lanes - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(lanes));
    if (lane != other && shadow.seen[warp][lane][other] <= time) return false;
  }
  return true;
}

constexpr const char* kDoes[] = {"reads", "writes", "updates"};

[[noreturn]] void race(const void* address, Access access, const std::string& other) {
  report(concat("race: it ", kDoes[static_cast<int>(access)], " ", describe_address(address), ", ",
                other, ", with no barrier between"));
}

// The thread that runs, or its whole warp.
struct Actor {
  unsigned thread, warp, lanes;
};

void check_writer(size_t cell, const Actor& me, Access access) {
  const uint32_t record = shadow.writer[cell], who = record & kWho;
  const void* address = reinterpret_cast<const void*>(shared_span.first + cell);
  if (record & kPending)
    report(concat("it ", kDoes[static_cast<int>(access)], " ", describe_address(address),
                  " while a cp.async of thread ", who, " into it is pending"));
  if ((record & kAtomic) && access == Access::atomic) return;
  if (who / kWarp == me.warp && all_have_seen(me.warp, me.lanes, who % kWarp, record >> kTimeShift))
    return;
  race(address, access, concat("which thread ", who, " wrote"));
}

void check_readers(size_t cell, const Actor& me, Access access) {
  const uint32_t record = shadow.readers[cell], warp = record & kWho;
  const void* address = reinterpret_cast<const void*>(shared_span.first + cell);
  if (warp == kManyWarps) race(address, access, "which threads of several warps read");
  for (unsigned rest = shadow.lanes[cell]; rest; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    if (warp == me.warp && all_have_seen(warp, me.lanes, lane, record >> kTimeShift)) continue;
    race(address, access, concat("which thread ", warp * kWarp + lane, " read"));
  }
}

// Joins the actor to the readers of a cell; those that it has seen need not be kept.
void add_reader(size_t cell, const Actor& me) {
  uint32_t& record = shadow.readers[cell];
  unsigned& lanes = shadow.lanes[cell];
  const uint32_t mine = at_time(shadow.now) | me.warp;
  if (record == mine) {
    lanes |= me.lanes;
  } else if (record < at_time(shadow.barrier)) {
    record = mine;
    lanes = me.lanes;
  } else if ((record & kWho) != me.warp) {
    record = at_time(shadow.now) | kManyWarps;
  } else {
    unsigned kept = me.lanes;
    for (unsigned rest = lanes; rest; rest &= rest - 1) {
      const auto lane = static_cast<unsigned>(std::countr_zero(rest));
      if (!all_have_seen(me.warp, me.lanes, lane, record >> kTimeShift)) kept |= 1u << lane;
    }
    record = mine;
    lanes = kept;
  }
}

void read(size_t first, size_t bytes, const Actor& me) {
  const uint32_t barrier = at_time(shadow.barrier);
  const bool alone = me.lanes != kAllLanes;
  for (size_t cell = first; cell < first + bytes; ++cell) {
    const uint32_t writer = shadow.writer[cell];
    if (writer >= barrier && !(alone && (writer & (kWho | kPending)) == me.thread))
      check_writer(cell, me, Access::read);
    add_reader(cell, me);
  }
}

void write(size_t first, size_t bytes, const Actor& me, Access access, uint32_t flags) {
  const uint32_t barrier = at_time(shadow.barrier);
  const uint32_t mine = at_time(shadow.now) | me.thread | flags;
  for (size_t cell = first; cell < first + bytes; ++cell) {
    const uint32_t writer = shadow.writer[cell];
    if (writer >= barrier && (writer & (kWho | kPending)) != me.thread)
      check_writer(cell, me, access);
    if (shadow.readers[cell] >= barrier) check_readers(cell, me, access);
    shadow.writer[cell] = mine;
    shadow.readers[cell] = 0;
  }
}

Actor this_thread() { return {threadIdx.x, threadIdx.x / kWarp, 1u << (threadIdx.x % kWarp)}; }
size_t cell_of(const void* address) {
  return reinterpret_cast<uintptr_t>(address) - shared_span.first;
}

}  // namespace

void watch_shared(void* first, size_t bytes) {
  for (auto* cells : {&shadow.writer, &shadow.readers, &shadow.lanes}) cells->assign(bytes, 0);
  shared_span = {reinterpret_cast<uintptr_t>(first), bytes};
}

void touch_shared(const void* address, size_t bytes, Access access) {
  if (access == Access::read)
    read(cell_of(address), bytes, this_thread());
  else
    write(cell_of(address), bytes, this_thread(), access, access == Access::atomic ? kAtomic : 0);
}

void read_by_warp(const void* address, size_t bytes) {
  read(cell_of(address), bytes, {threadIdx.x, threadIdx.x / kWarp, kAllLanes});
}

void begin_copy(const void* address, size_t bytes) {
  const size_t first = cell_of(address);
  write(first, bytes, this_thread(), Access::write, 0);
  const uint32_t pending = at_time(kEndOfTime + 1) | kPending | threadIdx.x;
  std::fill_n(shadow.writer.begin() + static_cast<std::ptrdiff_t>(first), bytes, pending);
}

void end_of_copy(const void* address, size_t bytes) {
  std::fill_n(shadow.writer.begin() + static_cast<std::ptrdiff_t>(cell_of(address)), bytes,
              at_time(shadow.now) | threadIdx.x);
}

void shadow_barrier() {
  tick();
  shadow.barrier = shadow.now;
}

void shadow_syncwarp(unsigned warp, unsigned lanes) {
  tick();
  auto& seen = shadow.seen[warp];
  uint32_t joined[kWarp] = {};
  for (unsigned rest = lanes; rest; rest &= rest - 1) {
    const auto lane = static_cast<unsigned>(std::countr_zero(rest));
    for (unsigned other = 0; other < kWarp; ++other)
      joined[other] = std::max(joined[other], seen[lane][other]);
  }
  for (unsigned rest = lanes; rest; rest &= rest - 1) joined[std::countr_zero(rest)] = shadow.now;
  for (unsigned rest = lanes; rest; rest &= rest - 1)
    std::copy(joined, joined + kWarp, seen[std::countr_zero(rest)]);
}

}  // namespace mullion::simt
