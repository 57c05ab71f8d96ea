// CUDA's kernel table.
#include "tensor/cuda/kernels.h"

namespace mullion::cuda {
namespace {

template <typename... UnaryOp, typename... BinaryOp>
constexpr KernelTable make_table(OpList<UnaryOp...>, OpList<BinaryOp...>) {
  return {
      .copy = copy,
      .fill = fill,
      .unary = {unary<UnaryOp>...},
      .unary_grad = {unary_grad<UnaryOp>...},
      .binary = {binary<BinaryOp>...},
      .affine = affine,
      .sum_axis = sum_axis,
      .accumulate = accumulate,
      .swiglu = swiglu,
      .swiglu_grad = swiglu_grad,
      .random = random,
      .matmul = matmul,
      .embedding = embedding,
      .embedding_grad = embedding_grad,
      .rms_norm = rms_norm,
      .rms_norm_grad = rms_norm_grad,
      .layer_norm = layer_norm,
      .layer_norm_grad = layer_norm_grad,
      .rope = rope,
      .softmax = softmax,
      .softmax_grad = softmax_grad,
      .cross_entropy = cross_entropy,
      .soft_cross_entropy = soft_cross_entropy,
      .attention_forward = attention_forward,
      .attention_forward_scratch = attention_forward_scratch,
      .attention_backward = attention_backward,
      .attention_backward_scratch = attention_backward_scratch,
      .msa_conv = msa_conv,
      .msa_conv_grad = msa_conv_backward,
      .max_pool2 = max_pool2,
      .max_pool2_backward = max_pool2_backward,
      .average_pool = average_pool,
      .average_pool_backward = average_pool_backward,
      .depthwise_conv3 = depthwise_conv3,
      .depthwise_conv3_backward = depthwise_conv3_backward,
      .im2col = im2col,
      .col2im = col2im,
      .adamw = adamw,
      .sgd = sgd,
      .ema = ema,
      .sum_squares = sum_squares,
  };
}

}  // namespace

constinit const KernelTable kCudaKernels = make_table(UnaryOps{}, BinaryOps{});

}  // namespace mullion::cuda
