// Arguments of the normalisations, the rotary embedding and the row-wise softmax and losses. All
// rows are contiguous; f32 and f64 on the CPU, f32 and bf16 on a GPU. Where dtype is bf16, what is
// one a row or one a column is f32 all the same: weight, bias and their gradients, rstd, mean,
// loss, cos, sin, and the probabilities of the soft loss.
#pragma once
#include "tensor/dtype.h"

namespace mullion {

// RMSNorm (Zhang and Sennrich 2019): y = x * rstd * weight, rstd = 1 / sqrt(mean(x^2) + eps).
struct RmsNormArgs {
  const void *x, *weight;
  void *y, *rstd;  // rstd: one a row, kept for the backward
  DType dtype;
  int64_t rows, width;
  double eps;
};
struct RmsNormBackwardArgs {
  const void *x, *weight, *rstd, *g;
  void *dx = nullptr, *dweight = nullptr;
  DType dtype;
  int64_t rows, width;
};

// LayerNorm: y = (x - mean) * rstd * weight + bias.
struct LayerNormArgs {
  const void *x, *weight, *bias;
  void *y, *mean, *rstd;  // mean, rstd: one a row
  DType dtype;
  int64_t rows, width;
  double eps;
};
struct LayerNormBackwardArgs {
  const void *x, *weight, *mean, *rstd, *g;
  void *dx = nullptr, *dweight = nullptr, *dbias = nullptr;
  DType dtype;
  int64_t rows, width;
};

// Rotary position embedding in the half-split form: with a = x[.., i], b = x[.., i + D/2]:
// y = (a cos - b sin, b cos + a sin). cos, sin: (tokens, D/2). x and y: (batch, tokens,
// heads, D), contiguous. The backward is the same with inverse = true (the angle negated).
struct RopeArgs {
  const void *x, *cos, *sin;
  void* y;
  DType dtype;
  int64_t batch, tokens, heads, head_dim;
  bool inverse;
};

struct SoftmaxArgs {
  const void* x;
  void* y;
  DType dtype;
  int64_t rows, width;
};
struct SoftmaxBackwardArgs {
  const void *y, *g;
  void* dx;
  DType dtype;
  int64_t rows, width;
};

// Cross-entropy against one class a row. loss[r] = logsumexp(row) - row[target], 0 where the target
// is negative (ignored). With write_grad the logits are overwritten by softmax - onehot (0 in
// ignored rows). A target >= width is the caller's to refuse.
struct CrossEntropyArgs {
  void* logits;
  const int64_t* targets;
  void* loss;
  DType dtype;
  int64_t rows, width;
  bool write_grad;
};

// Cross-entropy against a distribution a row (mixup, cutmix, smoothing):
// loss[r] = logsumexp(row) * sum(p) - sum(p * row). The gradient is softmax * sum(p) - p.
struct SoftCrossEntropyArgs {
  const void *logits, *probabilities;
  void *loss, *dlogits = nullptr;
  DType dtype;
  int64_t rows, width;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_NORM_KERNELS(KERNEL)                       \
  KERNEL(void, rms_norm, RmsNormArgs)                      \
  KERNEL(void, rms_norm_backward, RmsNormBackwardArgs)     \
  KERNEL(void, layer_norm, LayerNormArgs)                  \
  KERNEL(void, layer_norm_backward, LayerNormBackwardArgs) \
  KERNEL(void, rope, RopeArgs)                             \
  KERNEL(void, softmax, SoftmaxArgs)                       \
  KERNEL(void, softmax_backward, SoftmaxBackwardArgs)      \
  KERNEL(void, cross_entropy, CrossEntropyArgs)            \
  KERNEL(void, soft_cross_entropy, SoftCrossEntropyArgs)
