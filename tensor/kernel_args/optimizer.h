// Arguments of the optimizer kernels: each updates a whole list of parameters in one call. f32. The
// lists are in the host's memory, what they point to in the device's.
#pragma once
#include <cmath>
#include <cstdint>

#include "tensor/host_device.h"

namespace mullion {

// One parameter and what belongs to it; weight_decay and lr are the parameter group's.
struct OptimizerItem {
  float* parameter;
  const float* grad;
  float *first, *second;  // moments; SGD uses `first` as its momentum buffer
  int64_t n;
  double lr, weight_decay;
};

// What gradients are multiplied by before they are used: the factor that brings the norm of all of
// them down to at most max_norm (PyTorch's: max / (norm + 1e-6), at most 1; 1 where max_norm is 0,
// which means no clipping). The norm is the root of the sum that the kernel sum_squares left in the
// device's memory, so that the host need not wait for it. Where it is not finite the whole update
// is left out and no array changes. Without a sum the factor is 1.
struct Clipping {
  const double* sum_squares = nullptr;
  double max_norm = 0;
};

MULLION_HD inline double clip_factor(double sum_squares, double max_norm) {
  if (!(max_norm > 0)) return 1;
  const double factor = max_norm / (std::sqrt(sum_squares) + 1e-6);
  return factor < 1 ? factor : 1;
}

// AdamW (Loshchilov and Hutter 2019), decoupled decay, in PyTorch's order:
// p -= lr * wd * p;  m, v updated with g * factor;
// p -= lr / (1 - beta1^step) * m / (sqrt(v) / sqrt(1 - beta2^step) + eps).
struct AdamWArgs {
  const OptimizerItem* items;
  int64_t count, step;  // step counts from 1
  double beta1, beta2, eps;
  Clipping clipping = {};
};

// SGD with momentum, PyTorch's form: g += wd * p; buf = momentum * buf + g (buf = g at step 1);
// p -= lr * (nesterov ? g + momentum * buf : buf).
struct SgdArgs {
  const OptimizerItem* items;
  int64_t count, step;
  double momentum;
  bool nesterov;
  Clipping clipping = {};
};

// average = decay * average + (1 - decay) * value; `parameter` is the average, `grad` the value.
// Left out where *sum_squares, if given, is not finite.
struct EmaArgs {
  const OptimizerItem* items;
  int64_t count;
  double decay;
  const double* sum_squares = nullptr;
};

// *result, in the device's memory, = sum of squares of the `grad` arrays of the first `count`
// items, accumulated in double in a fixed order; NaN and infinity come through. The `watched` items
// that follow add nothing, but NaN where one of their elements is not finite.
struct SumSquaresArgs {
  const OptimizerItem* items;
  int64_t count;
  double* result;
  int64_t watched = 0;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_OPTIMIZER_KERNELS(KERNEL) \
  KERNEL(void, adamw, AdamWArgs)          \
  KERNEL(void, sgd, SgdArgs)              \
  KERNEL(void, ema, EmaArgs)              \
  KERNEL(void, sum_squares, SumSquaresArgs)
