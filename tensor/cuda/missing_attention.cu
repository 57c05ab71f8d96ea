// Slots of the table that have no kernel yet; a line goes when its kernel comes.
#include "tensor/cuda/kernels.h"

#include "tensor/check.h"

namespace mullion::cuda {

void attention_forward(const AttentionForwardArgs&) {
  fail(Fault::usage, "attention_forward: no kernel on cuda yet");
}
void attention_backward(const AttentionBackwardArgs&) {
  fail(Fault::usage, "attention_backward: no kernel on cuda yet");
}
size_t attention_forward_scratch(const AttentionSizes&) { return 0; }
size_t attention_backward_scratch(const AttentionSizes&) { return 0; }

}  // namespace mullion::cuda
