// A smoothed loss near ln n for many steps, or many evaluations at chance.
#include "apps/run/learning_watch.h"

#include <cmath>

#include "apps/program/log.h"
#include "tensor/check.h"

namespace mullion {

void LearningWatch::warn(const std::string& what) {
  if (warned_) return;
  warned_ = true;
  log_warning(what,
              ", as by guessing: nothing is being learned. Are the data and their labels what "
              "they should be? Else try another --lr");
}

void LearningWatch::step(int64_t step, double loss) {
  constexpr double kNear = 0.02, kKept = 0.95;
  constexpr int64_t kManySteps = 200;
  if (guess_loss_ <= 0 || step <= warmup_steps_) return;
  recent_loss_ = recent_loss_ == 0 ? loss : kKept * recent_loss_ + (1 - kKept) * loss;
  const bool near = std::abs(recent_loss_ - guess_loss_) < kNear * guess_loss_;
  steps_at_guess_ = near ? steps_at_guess_ + 1 : 0;
  if (steps_at_guess_ >= kManySteps)
    warn(concat("the loss has been at ln n = ", guess_loss_, " for ", steps_at_guess_, " steps"));
}

void LearningWatch::evaluation(int64_t step, const Evaluation& e) {
  constexpr int64_t kManyEvaluations = 5;
  if (!e.guess_metric || step <= warmup_steps_) return;
  evaluations_at_guess_ = e.metric <= *e.guess_metric ? evaluations_at_guess_ + 1 : 0;
  if (evaluations_at_guess_ >= kManyEvaluations)
    warn(concat(metric_, " has been at chance in ", evaluations_at_guess_, " evaluations, now ",
                e.metric));
}

}  // namespace mullion
