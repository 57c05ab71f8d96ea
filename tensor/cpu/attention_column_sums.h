// How much each key was attended to: the second pass of attention over many queries, which knows
// their log-sum-exp already. Decoding has its probabilities at hand (attention_decode.cc).
#pragma once
#include "tensor/kernel_args/attention.h"

namespace mullion::cpu {

template <typename T>
void attention_column_sums(const AttentionForwardArgs& args);

}  // namespace mullion::cpu
