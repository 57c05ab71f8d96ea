// Arguments of the optimizer kernels: each updates a whole list of parameters in one call. f32.
#pragma once
#include <cstdint>

namespace mullion {

// One parameter and what belongs to it; weight_decay and lr are the parameter group's.
struct OptimizerItem {
  float* parameter;
  const float* grad;
  float *first, *second;  // moments; SGD uses `first` as its momentum buffer
  int64_t n;
  double lr, weight_decay;
};

// AdamW (Loshchilov and Hutter 2019), decoupled decay, in PyTorch's order:
// p -= lr * wd * p;  m, v updated with g * grad_scale;
// p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps).
struct AdamWArgs {
  const OptimizerItem* items;
  int64_t count, step;  // step counts from 1
  double beta1, beta2, eps, grad_scale;
};

// SGD with momentum, PyTorch's form: g += wd * p; buf = momentum * buf + g (buf = g at step 1);
// p -= lr * (nesterov ? g + momentum * buf : buf).
struct SgdArgs {
  const OptimizerItem* items;
  int64_t count, step;
  double momentum, grad_scale;
  bool nesterov;
};

// average = decay * average + (1 - decay) * value; `parameter` is the average, `grad` the value.
struct EmaArgs {
  const OptimizerItem* items;
  int64_t count;
  double decay;
};

// *result = sum of squares of all `grad` arrays, accumulated in double in a fixed order; NaN and
// infinity come through.
struct SumSquaresArgs {
  const OptimizerItem* items;
  int64_t count;
  double* result;
};

}  // namespace mullion
