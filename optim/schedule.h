// Learning rates as functions of the step, counted from 0: nothing to save, nothing to resume.
#pragma once
#include <cstdint>
#include <string>

namespace mullion {

struct Schedule {
  enum class Kind { constant_with_warmup, cosine, linear } kind = Kind::constant_with_warmup;
  double lr = 0;         // the highest rate
  double warmup_lr = 0;  // where the warm-up starts; 0 is Hugging Face's, so step 0 has rate 0
  double min_lr = 0;     // where cosine and linear end
  int64_t warmup_steps = 0;
  int64_t total_steps = 0;  // for cosine and linear; min_lr afterwards

  // warm-up: warmup_lr + (lr - warmup_lr) step / warmup_steps; then lr, or from lr down to min_lr
  // by half a cosine (Loshchilov and Hutter 2017) or a line over the remaining steps.
  double at(int64_t step) const;
};

Schedule::Kind schedule_kind(
    const std::string& name);  // "constant_with_warmup", "cosine", "linear"

}  // namespace mullion
