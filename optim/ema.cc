// One kernel call updates all averages; swap() exchanges values, a parameter at a time.
#include "optim/ema.h"

#include <algorithm>

#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"

namespace mullion {

Ema::Ema(const std::vector<NamedParameter>& parameters, double decay, bool warmup)
    : live_(parameters), decay_(decay), warmup_(warmup) {
  CHECK(decay >= 0 && decay < 1, "EMA: decay ", decay, ", expected at least 0 and below 1");
  for (const NamedParameter& p : live_) averages_.push_back({p.name, raw::clone(p.value)});
}

void Ema::update(const Tensor& sum_squares) {
  if (live_.empty()) return;
  const OpScope scope("ema");
  const double n = static_cast<double>(updates_++);
  std::vector<OptimizerItem> items;
  for (size_t i = 0; i < live_.size(); ++i)
    items.push_back({averages_[i].value.data<float>(), live_[i].value.data<float>(), nullptr,
                     nullptr, live_[i].value.numel(), 0, 0});
  kernels(live_[0].value.device())
      .ema({.items = items.data(),
            .count = static_cast<int64_t>(items.size()),
            .decay = warmup_ ? std::min(decay_, (1 + n) / (10 + n)) : decay_,
            .sum_squares = sum_squares.defined() ? sum_squares.data<double>() : nullptr});
}

void Ema::swap() {
  const OpScope scope("ema");
  for (size_t i = 0; i < live_.size(); ++i) {
    const Tensor value = raw::clone(live_[i].value);
    raw::copy_into(averages_[i].value, live_[i].value);
    raw::copy_into(value, averages_[i].value);
  }
}

}  // namespace mullion
