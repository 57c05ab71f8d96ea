// Fibers, orders and the places where threads wait. A thread that has to wait chooses the next one
// itself and jumps there: within its warp as long as a lane is ready, then the round's next warp.
// When no warp has a ready lane the round is over: all threads stand at one barrier, which opens,
// or all have ended, or something is wrong.
#include "tensor/simt/engine.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <cstring>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/engine_state.h"
#include "tensor/simt/shared_shadow.h"

uint3 threadIdx, blockIdx;

namespace mullion::simt {

alignas(Engine) unsigned char engine_place[sizeof(Engine)];

namespace {

using boost::context::detail::fcontext_t;
using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

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

// The place of a fiber that was left is stored by the one that was entered.
void arrive(transfer_t from) { *static_cast<fcontext_t*>(from.data) = from.fctx; }
void enter(Lane& next, fcontext_t& left) {
  engine().current = &next;
  threadIdx.x = next.index;
  arrive(jump_fcontext(next.context, &left));
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

[[maybe_unused]] Engine* const made = new (engine_place) Engine;

}  // namespace

Engine::Engine() : schedule(schedule_of_environment()) { catch_illegal_accesses(); }

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

void run_threads() {
  Engine& e = engine();
  begin_round();
  const unsigned first = e.round[0];
  e.running = true;
  enter(e.lanes[first * kWarp + chosen(e.warps[first].ready)], e.main);
  e.running = false;
}

void leave_grid() {
  Engine& e = engine();
  fcontext_t forgotten;
  jump_fcontext(e.main, &forgotten);
  std::abort();
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

void set_schedule(Schedule schedule) { engine().schedule = schedule; }
Schedule schedule() { return engine().schedule; }

}  // namespace mullion::simt
