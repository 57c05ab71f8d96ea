// Attention that also says how much each key was attended to, for caches that evict by it. No part
// of training: it has no backward.
#pragma once
#include "tensor/tensor.h"

namespace mullion {

struct AttentionPattern;  // tensor/attention_pattern.h

struct AttentionSums {
  Tensor o;     // (B, T, H, D), with the bits of attention()
  Tensor sums;  // (B, H, S): each key's probabilities summed over the queries; f32, f64 for f64
};
// As attention() of autograd/ops.h, and the sums over the queries from `sums_from` on.
AttentionSums attention_with_sums(const Tensor& q, const Tensor& k, const Tensor& v,
                                  const AttentionPattern& pattern, double scale,
                                  int64_t query_offset = 0, int64_t sums_from = 0);

}  // namespace mullion
