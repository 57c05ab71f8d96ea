// A launch: whether the device would take it, then its blocks, one after the other.
#include <algorithm>
#include <numeric>

#include "tensor/simt/access_counters.h"
#include "tensor/simt/device_memory.h"
#include "tensor/simt/engine_state.h"
#include "tensor/simt/kernel_registers.h"
#include "tensor/simt/shared_memory.h"
#include "tensor/simt/shared_shadow.h"
#include "tensor/simt/vector_types.h"

dim3 blockDim, gridDim;

namespace mullion::simt {
namespace {

constexpr int64_t kMaxGridX = (int64_t{1} << 31) - 1, kMaxGridYZ = 65535;

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
  run_threads();
  if (!e.finding.empty()) return;
  if (counting_accesses) count_block();
  if (const std::string damage = damaged_shared_memory(); !damage.empty())
    e.finding = concat(l.kernel, ": ", block_name(), ": ", damage);
}

}  // namespace

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

void count_run(const char* what) {
  if (engine().counts) engine().counts->add(what);
}
LaunchCounts::LaunchCounts() { engine().counts = this; }
LaunchCounts::~LaunchCounts() { engine().counts = nullptr; }

}  // namespace mullion::simt
