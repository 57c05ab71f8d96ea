// Whether anything is being learned: one warning in a run where the loss stays at that of a model
// that knows nothing, or a metric at what guessing reaches.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

#include "apps/run/training_record.h"

namespace mullion {

class LearningWatch {
 public:
  // `guess_loss`: of a model that knows nothing, ln n of n classes; 0: not known. In the first
  // `warmup_steps` nothing is expected.
  LearningWatch(double guess_loss, int64_t warmup_steps, std::string metric)
      : guess_loss_(guess_loss), warmup_steps_(warmup_steps), metric_(std::move(metric)) {}

  void step(int64_t step, double loss);
  void evaluation(int64_t step, const Evaluation& evaluation);

 private:
  void warn(const std::string& what);

  double guess_loss_;
  int64_t warmup_steps_;
  std::string metric_;      // its name
  double recent_loss_ = 0;  // moving mean
  int64_t steps_at_guess_ = 0, evaluations_at_guess_ = 0;
  bool warned_ = false;
};

}  // namespace mullion
