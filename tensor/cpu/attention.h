// The CPU's attention kernels. Both throw Error for sizes that do not fit together.
#pragma once
#include "tensor/kernel_args/attention.h"

namespace mullion::cpu {

// One query token goes to a kernel of its own, split over the keys (decoding with a KV cache).
// The result does not depend on the number of threads.
void attention_forward(const AttentionForwardArgs& args);
size_t attention_forward_scratch(const AttentionSizes& size);  // none

void attention_backward(const AttentionBackwardArgs& args);
// Bytes of args.scratch for the present number of threads: partial sums of dk and dv of keys that
// several work items share (the sinks; all keys of full attention with few key heads).
size_t attention_backward_scratch(const AttentionSizes& size);

}  // namespace mullion::cpu
