// The CPU's kernel table.
#include "tensor/cpu/kernels.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/kernel_args/pooling.h"

namespace mullion {
namespace {

template <typename... UnaryOp, typename... BinaryOp>
constexpr KernelTable make_table(OpList<UnaryOp...>, OpList<BinaryOp...>) {
  return {
      .copy = cpu::copy,
      .fill = cpu::fill,
      .unary = {cpu::unary<UnaryOp>...},
      .unary_grad = {cpu::unary_grad<UnaryOp>...},
      .binary = {cpu::binary<BinaryOp>...},
      .affine = cpu::affine,
      .sum_axis = cpu::sum_axis,
      .accumulate = cpu::accumulate,
      .swiglu = cpu::swiglu,
      .swiglu_grad = cpu::swiglu_grad,
      .random = cpu::random,
      .matmul = cpu::matmul,
      .embedding = cpu::embedding,
      .embedding_grad = cpu::embedding_grad,
      .rms_norm = cpu::rms_norm,
      .rms_norm_grad = cpu::rms_norm_grad,
      .layer_norm = cpu::layer_norm,
      .layer_norm_grad = cpu::layer_norm_grad,
      .rope = cpu::rope,
      .softmax = cpu::softmax,
      .softmax_grad = cpu::softmax_grad,
      .cross_entropy = cpu::cross_entropy,
      .soft_cross_entropy = cpu::soft_cross_entropy,
      .attention_forward = cpu::attention_forward,
      .attention_forward_scratch = cpu::attention_forward_scratch,
      .attention_backward = cpu::attention_backward,
      .attention_backward_scratch = cpu::attention_backward_scratch,
      .msa_conv = cpu::msa_conv,
      .msa_conv_grad = cpu::msa_conv_backward,
      .max_pool2 = cpu::max_pool2,
      .max_pool2_backward = cpu::max_pool2_backward,
      .average_pool = cpu::average_pool,
      .average_pool_backward = cpu::average_pool_backward,
      .depthwise_conv3 = cpu::depthwise_conv3,
      .depthwise_conv3_backward = cpu::depthwise_conv3_backward,
      .im2col = cpu::im2col,
      .col2im = cpu::col2im,
      .adamw = cpu::adamw,
      .sgd = cpu::sgd,
      .ema = cpu::ema,
      .sum_squares = cpu::sum_squares,
  };
}

}  // namespace

constinit const KernelTable kCpuKernels = make_table(UnaryOps{}, BinaryOps{});

}  // namespace mullion
