// The CUDA kernels, one function a slot of the kernel table (tensor/backend.h), on the current
// device and stream (runtime.h). Arguments and formulas: tensor/kernel_args/*.h; every element type
// is f32 or bf16 unless the file says more.
#pragma once
#include "tensor/backend.h"

namespace mullion::cuda {

extern const KernelTable kCudaKernels;  // table.cu

// copy.cu
void copy(const CopyArgs&);
void fill(const FillArgs&);

// elementwise.cu
template <typename Op>
void unary(const UnaryArgs&);
template <typename Op>
void unary_grad(const UnaryGradArgs&);
template <typename Op>
void binary(const BinaryArgs&);
void affine(const AffineArgs&);
void accumulate(const AccumulateArgs&);

// swiglu.cu
void swiglu(const SwigluArgs&);
void swiglu_grad(const SwigluGradArgs&);

// sum_axis.cu
void sum_axis(const SumAxisArgs&);

// random.cu
void random(const RandomArgs&);

// matmul.cu
void matmul(const MatmulArgs&);

// embedding.cu
void embedding(const EmbeddingArgs&);
void embedding_grad(const EmbeddingGradArgs&);

// rms_norm.cu, layer_norm.cu, rope.cu
void rms_norm(const RmsNormArgs&);
void rms_norm_grad(const RmsNormGradArgs&);
void layer_norm(const LayerNormArgs&);
void layer_norm_grad(const LayerNormGradArgs&);
void rope(const RopeArgs&);

// softmax.cu, cross_entropy.cu
void softmax(const SoftmaxArgs&);
void softmax_grad(const SoftmaxGradArgs&);
void cross_entropy(const CrossEntropyArgs&);
void soft_cross_entropy(const SoftCrossEntropyArgs&);

// attention_*.cu
void attention_forward(const AttentionForwardArgs&);
void attention_backward(const AttentionBackwardArgs&);
size_t attention_forward_scratch(const AttentionSizes&);
size_t attention_backward_scratch(const AttentionSizes&);

// msa_conv.cu, which chooses among the kernels of msa_conv_simple.cu (any geometry),
// msa_conv_tiled*.cu (f32) and msa_conv_mma*.cu (bf16), where msa_conv_plan.h says has_tiles()
void msa_conv(const MsaConvArgs&);
void msa_conv_backward(const MsaConvBackwardArgs&);
void msa_conv_simple(const MsaConvArgs&);
void msa_conv_simple_backward(const MsaConvBackwardArgs&);
void msa_conv_tiled(const MsaConvArgs&);
void msa_conv_tiled_backward(const MsaConvBackwardArgs&);
void msa_conv_mma(const MsaConvArgs&);
void msa_conv_mma_backward(const MsaConvBackwardArgs&);

// pooling.cu, depthwise_conv.cu, im2col.cu
void max_pool2(const MaxPool2Args&);
void max_pool2_backward(const MaxPool2BackwardArgs&);
void average_pool(const AveragePoolArgs&);
void average_pool_backward(const AveragePoolBackwardArgs&);
void depthwise_conv3(const DepthwiseConv3Args&);
void depthwise_conv3_backward(const DepthwiseConv3BackwardArgs&);
void im2col(const Im2ColArgs&);
void col2im(const Col2ImArgs&);

// optimizer.cu
void adamw(const AdamWArgs&);
void sgd(const SgdArgs&);
void ema(const EmaArgs&);
void sum_squares(const SumSquaresArgs&);

}  // namespace mullion::cuda
