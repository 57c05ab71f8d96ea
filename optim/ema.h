// An exponential moving average of parameters, evaluated beside the raw weights.
#pragma once
#include "nn/module.h"

namespace mullion {

class Ema {
 public:
  // Starts as a copy of the parameters. With warm-up the decay at update n (from 0) is
  // min(decay, (1 + n) / (10 + n)), so that short runs profit as well.
  Ema(const std::vector<NamedParameter>& parameters, double decay, bool warmup);
  // Left out where `sum_squares` (optim/optimizer.h), if given, is not finite; who reads it and
  // finds that out calls retract().
  void update(const Tensor& sum_squares = {});
  void retract() { --updates_; }
  // Exchanges the averages and the live values in place; call twice to evaluate and come back.
  void swap();
  const std::vector<NamedParameter>& averages() const { return averages_; }
  int64_t updates() const { return updates_; }
  void set_updates(int64_t updates) { updates_ = updates; }

 private:
  std::vector<NamedParameter> live_, averages_;
  double decay_;
  bool warmup_;
  int64_t updates_ = 0;
};

}  // namespace mullion
