// Attention of one query token a sequence, the step of decoding with a KV cache. It is bound by
// reading K and V, so each row is read once, in vectors along D, for all heads of a head group; the
// keys are split into parts whose length follows from the sizes, and results are merged in order.
#pragma once
#include "tensor/kernel_args/attention.h"

namespace mullion::cpu {

template <typename T>
void attention_decode(const AttentionForwardArgs& args);

}  // namespace mullion::cpu
