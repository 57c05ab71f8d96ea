// The lengths of warmup and decay against the steps that the run will make.
#include "apps/options/schedule_check.h"

#include "tensor/check.h"

namespace mullion {

void check_rates(const Schedule& s) {
  const bool falls = s.kind != Schedule::Kind::constant_with_warmup;
  CHECK_AS(Fault::usage, !falls || s.min_lr <= s.lr, "--min-lr ", s.min_lr,
           ": above the highest learning rate, ", s.lr,
           ", so that the rate would rise to it; --min-lr 0 "
           "is below every one, and --lr sets the highest, which else follows from the batch");
  CHECK_AS(Fault::usage, s.warmup_steps == 0 || s.warmup_lr <= s.lr, "--warmup-lr ", s.warmup_lr,
           ": above the highest learning rate, ", s.lr, "; --warmup-lr 0 is below every one");
}

std::vector<std::string> schedule_warnings(const Schedule& s, int64_t steps_per_epoch) {
  std::vector<std::string> warnings;
  const auto length = [&](int64_t steps) {
    if (steps_per_epoch == 0) return concat(steps, " steps");
    return concat(steps, " steps (",
                  static_cast<double>(steps) / static_cast<double>(steps_per_epoch), " epochs)");
  };
  if (s.lr == 0) {
    warnings.emplace_back("the learning rate is 0: no weight will change");
  } else if (s.warmup_steps >= s.total_steps) {
    warnings.push_back(concat("the warm-up takes ", length(s.warmup_steps), ", the training ",
                              length(s.total_steps), ": the rate ends at ", s.at(s.total_steps - 1),
                              " and never reaches ", s.lr));
  }
  return warnings;
}

}  // namespace mullion
