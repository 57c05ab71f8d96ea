// The CPU kernels, one function a slot of the kernel table (tensor/backend.h). Arguments and
// formulas: tensor/kernel_args/*.h.
#pragma once
#include "tensor/backend.h"

namespace mullion::cpu {

// copy.cc
void copy(const CopyArgs&);
void fill(const FillArgs&);
// elementwise.cc
template <typename Op>
void unary(const UnaryArgs&);
template <typename Op>
void unary_grad(const UnaryGradArgs&);
template <typename Op>
void binary(const BinaryArgs&);
void affine(const AffineArgs&);
void accumulate(const AccumulateArgs&);
void swiglu(const SwigluArgs&);
void swiglu_grad(const SwigluGradArgs&);
// sum_axis.cc
void sum_axis(const SumAxisArgs&);
// random.cc
void random(const RandomArgs&);
// matmul.cc
void matmul(const MatmulArgs&);
// embedding.cc
void embedding(const EmbeddingArgs&);
void embedding_grad(const EmbeddingGradArgs&);
// rms_norm.cc, layer_norm.cc, rope.cc
void rms_norm(const RmsNormArgs&);
void rms_norm_grad(const RmsNormGradArgs&);
void layer_norm(const LayerNormArgs&);
void layer_norm_grad(const LayerNormGradArgs&);
void rope(const RopeArgs&);
// softmax.cc, cross_entropy.cc
void softmax(const SoftmaxArgs&);
void softmax_grad(const SoftmaxGradArgs&);
void cross_entropy(const CrossEntropyArgs&);
void soft_cross_entropy(const SoftCrossEntropyArgs&);
// attention.cc (one token: attention_decode.cc), attention_backward.cc
void attention_forward(const AttentionForwardArgs&);
size_t attention_forward_scratch(const AttentionSizes&);
void attention_backward(const AttentionBackwardArgs&);
size_t attention_backward_scratch(const AttentionSizes&);
// optimizer.cc
void adamw(const AdamWArgs&);
void sgd(const SgdArgs&);
void ema(const EmaArgs&);
void sum_squares(const SumSquaresArgs&);

}  // namespace mullion::cpu
