// Slots of the table that have no kernel yet; a line goes when its kernel comes.
#include "tensor/cuda/kernels.h"

#include "tensor/check.h"

namespace mullion::cuda {

void embedding(const EmbeddingArgs&) { fail(Fault::usage, "embedding: no kernel on cuda yet"); }
void embedding_grad(const EmbeddingGradArgs&) {
  fail(Fault::usage, "embedding_grad: no kernel on cuda yet");
}
void rms_norm(const RmsNormArgs&) { fail(Fault::usage, "rms_norm: no kernel on cuda yet"); }
void rms_norm_grad(const RmsNormGradArgs&) {
  fail(Fault::usage, "rms_norm_grad: no kernel on cuda yet");
}
void layer_norm(const LayerNormArgs&) { fail(Fault::usage, "layer_norm: no kernel on cuda yet"); }
void layer_norm_grad(const LayerNormGradArgs&) {
  fail(Fault::usage, "layer_norm_grad: no kernel on cuda yet");
}
void rope(const RopeArgs&) { fail(Fault::usage, "rope: no kernel on cuda yet"); }
void softmax(const SoftmaxArgs&) { fail(Fault::usage, "softmax: no kernel on cuda yet"); }
void softmax_grad(const SoftmaxGradArgs&) {
  fail(Fault::usage, "softmax_grad: no kernel on cuda yet");
}
void cross_entropy(const CrossEntropyArgs&) {
  fail(Fault::usage, "cross_entropy: no kernel on cuda yet");
}
void soft_cross_entropy(const SoftCrossEntropyArgs&) {
  fail(Fault::usage, "soft_cross_entropy: no kernel on cuda yet");
}
void swiglu(const SwigluArgs&) { fail(Fault::usage, "swiglu: no kernel on cuda yet"); }
void swiglu_grad(const SwigluGradArgs&) {
  fail(Fault::usage, "swiglu_grad: no kernel on cuda yet");
}

}  // namespace mullion::cuda
