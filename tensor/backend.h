// The kernel table: every computation on tensors goes through one of these pointers, with a plain
// struct of pointers and sizes. A device that is not part of the build has no table. Kernels write
// every element of their outputs, allocate no tensors and know nothing of gradients.
#pragma once
#include "tensor/elementwise.h"
#include "tensor/storage.h"

namespace mullion {

struct CopyArgs;
struct FillArgs;
struct UnaryArgs;
struct UnaryGradArgs;
struct AffineArgs;
struct BinaryArgs;
struct SumAxisArgs;
struct AccumulateArgs;
struct SwigluArgs;
struct SwigluGradArgs;
struct RandomArgs;
struct MatmulArgs;
struct EmbeddingArgs;
struct EmbeddingGradArgs;
struct RmsNormArgs;
struct RmsNormGradArgs;
struct LayerNormArgs;
struct LayerNormGradArgs;
struct RopeArgs;
struct SoftmaxArgs;
struct SoftmaxGradArgs;
struct CrossEntropyArgs;
struct SoftCrossEntropyArgs;
struct AttentionSizes;
struct AttentionForwardArgs;
struct AttentionBackwardArgs;
struct MsaConvArgs;
struct MsaConvBackwardArgs;
struct MaxPool2Args;
struct MaxPool2BackwardArgs;
struct AveragePoolArgs;
struct AveragePoolBackwardArgs;
struct DepthwiseConv3Args;
struct DepthwiseConv3BackwardArgs;
struct Im2ColArgs;
struct Col2ImArgs;
struct AdamWArgs;
struct SgdArgs;
struct EmaArgs;
struct SumSquaresArgs;

struct KernelTable {
  // elementwise and data movement (kernel_args/elementwise.h)
  void (*copy)(const CopyArgs&);
  void (*fill)(const FillArgs&);
  void (*unary[UnaryOps::size])(const UnaryArgs&);
  void (*unary_grad[UnaryOps::size])(const UnaryGradArgs&);
  void (*binary[BinaryOps::size])(const BinaryArgs&);
  void (*affine)(const AffineArgs&);
  void (*sum_axis)(const SumAxisArgs&);
  void (*accumulate)(const AccumulateArgs&);
  void (*swiglu)(const SwigluArgs&);
  void (*swiglu_grad)(const SwigluGradArgs&);
  void (*random)(const RandomArgs&);
  // products and lookups (kernel_args/linear.h)
  void (*matmul)(const MatmulArgs&);
  void (*embedding)(const EmbeddingArgs&);
  void (*embedding_grad)(const EmbeddingGradArgs&);
  // normalisation, positions, losses (kernel_args/norm.h)
  void (*rms_norm)(const RmsNormArgs&);
  void (*rms_norm_grad)(const RmsNormGradArgs&);
  void (*layer_norm)(const LayerNormArgs&);
  void (*layer_norm_grad)(const LayerNormGradArgs&);
  void (*rope)(const RopeArgs&);
  void (*softmax)(const SoftmaxArgs&);
  void (*softmax_grad)(const SoftmaxGradArgs&);
  void (*cross_entropy)(const CrossEntropyArgs&);
  void (*soft_cross_entropy)(const SoftCrossEntropyArgs&);
  // attention (kernel_args/attention.h); sizes of scratch are in bytes
  void (*attention_forward)(const AttentionForwardArgs&);
  size_t (*attention_forward_scratch)(const AttentionSizes&);
  void (*attention_backward)(const AttentionBackwardArgs&);
  size_t (*attention_backward_scratch)(const AttentionSizes&);
  // windowed attention on maps (kernel_args/msa_conv.h)
  void (*msa_conv)(const MsaConvArgs&);
  void (*msa_conv_grad)(const MsaConvBackwardArgs&);
  // pooling and convolution on maps (kernel_args/pooling.h)
  void (*max_pool2)(const MaxPool2Args&);
  void (*max_pool2_backward)(const MaxPool2BackwardArgs&);
  void (*average_pool)(const AveragePoolArgs&);
  void (*average_pool_backward)(const AveragePoolBackwardArgs&);
  void (*depthwise_conv3)(const DepthwiseConv3Args&);
  void (*depthwise_conv3_backward)(const DepthwiseConv3BackwardArgs&);
  void (*im2col)(const Im2ColArgs&);
  void (*col2im)(const Col2ImArgs&);
  // optimizers (kernel_args/optimizer.h)
  void (*adamw)(const AdamWArgs&);
  void (*sgd)(const SgdArgs&);
  void (*ema)(const EmaArgs&);
  void (*sum_squares)(const SumSquaresArgs&);
};

// The table of a device. Throws Error (Fault::usage) where this build has none: "device cuda is not
// part of this build".
const KernelTable& kernels(Device device);

extern const KernelTable kCpuKernels;  // tensor/cpu/table.cc

}  // namespace mullion
