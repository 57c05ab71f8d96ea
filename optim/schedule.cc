// Warmup, then the kind's formula.
#include "optim/schedule.h"

#include <algorithm>
#include <cmath>

#include "tensor/check.h"

namespace mullion {

double Schedule::at(int64_t step) const {
  if (step < warmup_steps)
    return warmup_lr +
           (lr - warmup_lr) * static_cast<double>(step) / static_cast<double>(warmup_steps);
  if (kind == Kind::constant_with_warmup) return lr;
  const double span = static_cast<double>(std::max<int64_t>(total_steps - warmup_steps, 1));
  const double done = std::min(1.0, static_cast<double>(step - warmup_steps) / span);
  const double left = kind == Kind::cosine ? 0.5 * (1 + std::cos(M_PI * done)) : 1 - done;
  return min_lr + (lr - min_lr) * left;
}

Schedule::Kind schedule_kind(const std::string& name) {
  if (name == "constant_with_warmup") return Schedule::Kind::constant_with_warmup;
  if (name == "cosine") return Schedule::Kind::cosine;
  if (name == "linear") return Schedule::Kind::linear;
  fail(Fault::usage, "schedule: ", name, " is not one of constant_with_warmup, cosine, linear");
}

}  // namespace mullion
