#include "optim/parallel/spread_plan.h"

#include <algorithm>

#include "optim/parallel/step_ranks.h"
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
    return (ranks - 1) * part(u.trained) < u.trained;
  });
  CHECK_AS(Fault::usage, all_have, "--shard full: rank ", ranks - 1, " of ", ranks,
           " would have no part of the few parameters that are trained");
}

int64_t SpreadPlan::part(int64_t bytes) const {
  return SpreadUnit::padded((bytes + ranks - 1) / ranks);
}

int64_t SpreadPlan::own_passes() const { return passes_of_rank(passes, 0, ranks / ranks_a_pass); }

// Beside what stays, parts and moments, the most of
//   forward    the rest's weights, a unit's and the next one's
//   backward   the rest's gradients and the next unit's weights, with a unit's weights and
//              gradients and what travels of the unit before: its gradients in one place and those
//              of the other ranks that arrive; without overlap these beside the gradients alone
//   its end    the rest's gradients, the place where they are added up, what arrives, their sum
// and of the sums of gradients those that there are by then: all from the second pass on.
int64_t SpreadPlan::peak_bytes(int64_t states) const {
  const SpreadUnit& rest = units.back();
  const auto blocks = units.size() - 1;
  const auto whole = [&](int64_t bytes) { return ranks * part(bytes); };
  const auto weights = [&](const SpreadUnit& u) { return whole(u.frozen) + whole(u.trained); };
  const auto travels = [&](const SpreadUnit& u) { return (2 * ranks - 1) * part(u.trained); };
  int64_t stays = 0, sums = 0;
  for (const SpreadUnit& u : units) {
    stays += part(u.frozen) + (1 + states) * part(u.trained);
    sums += part(u.trained);
  }
  const bool once = own_passes() == 1;
  int64_t most = 0, reached = once ? 0 : sums;  // sums of gradients that there are
  for (size_t i = 0; i < blocks; ++i)
    most = std::max(most, reached + weights(rest) + weights(units[i]) +
                              (i + 1 < blocks ? weights(units[i + 1]) : 0));
  for (size_t i = blocks; i-- > 0;) {
    const SpreadUnit& u = units[i];
    const int64_t held = reached + whole(rest.trained) + (rest_stays ? weights(rest) : 0) +
                         (i > 0 ? weights(units[i - 1]) : 0);
    const int64_t before = overlap && i + 1 < blocks ? travels(units[i + 1]) : 0;
    most = std::max({most, held + weights(u) + whole(u.trained) + before,
                     held + whole(u.trained) + travels(u)});
    if (once) reached += part(u.trained);
  }
  return stays + std::max(most, reached + whole(rest.trained) + travels(rest) + part(rest.trained));
}

// Forward and backward gather a unit's weights once each; with the last one the backward begins.
int64_t SpreadPlan::sent_bytes() const {
  int64_t parts = 0;
  for (size_t i = 0; i < units.size(); ++i) {
    const bool once = i + 2 >= units.size();
    parts +=
        (once ? 1 : 2) * (part(units[i].frozen) + part(units[i].trained)) + part(units[i].trained);
  }
  return own_passes() * (ranks - 1) * parts;
}

}  // namespace mullion
