// Sums over units: what is held always, and the most that is held at once.
#include "optim/parallel/spread_plan.h"

#include <algorithm>
#include <numeric>

#include "optim/parallel/step_ranks.h"
#include "tensor/allocation.h"
#include "tensor/check.h"

namespace mullion {

void check_equal_passes(int64_t passes, int64_t groups, int64_t ranks_a_pass) {
  CHECK_AS(Fault::usage, passes % groups == 0, "--shard full: ", passes,
           " passes a step (--grad-accum-steps) are no multiple of ", groups,
           ranks_a_pass > 1 ? " groups of ranks" : " ranks",
           ": each pass gathers weights from all of them");
}

void SpreadPlan::check() const {
  check_equal_passes(passes, ranks / ranks_a_pass, ranks_a_pass);
  const bool all_have = std::any_of(units.begin(), units.end(), [&](const SpreadUnit& u) {
    return (ranks - 1) * part(u.trained_bytes()) < u.trained_bytes();
  });
  CHECK_AS(Fault::usage, all_have, "--shard full: rank ", ranks - 1, " of ", ranks,
           " would have no part of the few parameters that are trained");
}

int64_t SpreadPlan::part(int64_t bytes) const {
  return SpreadUnit::padded((bytes + ranks - 1) / ranks);
}

int64_t SpreadUnit::trained_bytes() const {
  return std::accumulate(trained.begin(), trained.end(), int64_t{0});
}

int64_t SpreadPlan::own_passes() const { return passes_of_rank(passes, 0, ranks / ranks_a_pass); }

// ------------------------------------------------------------------ blocks of memory, each of them
// as the allocator makes it

namespace {
int64_t block(int64_t bytes, DeviceType device) {
  return bytes > 0 ? allocated_bytes(bytes, device) : 0;
}
}  // namespace

// Of so many bytes, all parts together.
int64_t SpreadPlan::whole(int64_t bytes) const { return block(ranks * part(bytes), device); }

int64_t SpreadPlan::weights(const SpreadUnit& u) const {
  return whole(u.frozen) + whole(u.trained_bytes());
}

int64_t SpreadPlan::gradients(const SpreadUnit& u) const {
  int64_t sum = 0;
  for (const int64_t bytes : u.trained) sum += block(bytes, device);
  return sum;
}

// Its gradients in one place, and those of the other ranks that arrive.
int64_t SpreadPlan::travels(const SpreadUnit& u) const {
  const int64_t bytes = u.trained_bytes();
  return whole(bytes) + block((ranks - 1) * part(bytes), device);
}

// A moment of what a rank has of each tensor, of the rank for which it is the most.
int64_t SpreadPlan::pieces(const SpreadUnit& u) const {
  const int64_t share = part(u.trained_bytes());
  int64_t most = 0, own = 0, at = 0, end = share;
  for (const int64_t bytes : u.trained)
    for (const int64_t last = at + bytes; at < last;) {
      const int64_t next = std::min(last, end);
      own += block(next - at, device);
      most = std::max(most, own);
      at = next;
      if (at == end) own = 0, end += share;
    }
  return most;
}

int64_t SpreadPlan::sum_bytes(const SpreadUnit& u) const {
  return block(part(u.trained_bytes()), device);
}

int64_t SpreadPlan::kept_bytes(int64_t states) const {
  int64_t bytes = 0;
  for (const SpreadUnit& u : units)
    bytes += block(part(u.frozen), device) + sum_bytes(u) + states * pieces(u);
  return bytes;
}

// Beside what stays, parts and moments, the most of
//   forward    the rest's weights, a unit's and the next one's
//   backward   the rest's gradients and the next unit's weights, with a unit's weights and
//              gradients and what travels of the unit before; or, when it has been left and its
//              gradients begin to travel, with these alone
//   its end    the rest's gradients, which begin to travel
// and of the sums of gradients those that there are by then: all from the second pass on.
int64_t SpreadPlan::peak_bytes(int64_t states) const {
  const SpreadUnit& rest = units.back();
  const auto blocks = units.size() - 1;
  const bool once = own_passes() == 1;
  int64_t most = 0, reached = 0;  // sums of gradients that there are
  if (!once)
    for (const SpreadUnit& u : units) reached += sum_bytes(u);
  for (size_t i = 0; i < blocks; ++i)
    most = std::max(most, reached + weights(rest) + weights(units[i]) +
                              (i + 1 < blocks ? weights(units[i + 1]) : 0));
  for (size_t i = blocks; i-- > 0;) {
    const SpreadUnit& u = units[i];
    const int64_t held = reached + gradients(rest) + (rest_stays ? weights(rest) : 0) +
                         (i > 0 ? weights(units[i - 1]) : 0) + gradients(u);
    const int64_t before = overlap && i + 1 < blocks ? travels(units[i + 1]) : 0;
    most = std::max({most, held + weights(u) + before, held + travels(u)});
    if (once) reached += sum_bytes(u);
  }
  return kept_bytes(states) + std::max(most, reached + gradients(rest) + travels(rest));
}

// Forward and backward gather a unit's weights once each; with the last one the backward begins.
int64_t SpreadPlan::sent_bytes() const {
  int64_t parts = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    const bool once = i + 2 >= units.size();
    const int64_t trained = part(units[i].trained_bytes());
    parts += (once ? 1 : 2) * (part(units[i].frozen) + trained) + trained;
  }
  return own_passes() * (ranks - 1) * parts;
}

}  // namespace mullion
