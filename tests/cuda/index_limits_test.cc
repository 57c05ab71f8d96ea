// Sizes beyond what a kernel's 32-bit indices or a grid reach are refused, by the kernel's name,
// and before anything is read: the arguments here have sizes and no memory.
#include <algorithm>
#include <cstdint>

#include "tensor/attention_pattern.h"
#include "tensor/kernel_args/attention.h"
#include "tensor/kernel_args/elementwise.h"
#include "tensor/kernel_args/linear.h"
#include "tensor/kernel_args/msa_conv.h"
#include "tensor/kernel_args/norm.h"
#include "tensor/kernel_args/pooling.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

constexpr int64_t kTooMany = int64_t{1} << 31;

class IndexLimits : public OnDevice<> {
 protected:
  template <typename Args>
  static void refused(void (*KernelTable::*kernel)(const Args&), const Args& args,
                      const std::string& name, const std::string& size) {
    SCOPED_TRACE(name);
    try {
      (kernels(kCuda).*kernel)(args);
      ADD_FAILURE() << "not refused";
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_EQ(what.rfind(name + ": ", 0), 0u) << what;
      EXPECT_NE(what.find(size), std::string::npos) << what;
    }
  }
  static void refused_wide(const std::string& name, auto kernel, auto args) {
    args.dtype = DType::f32;
    args.rows = 1;
    args.width = kTooMany;
    if constexpr (requires { args.dx; }) args.dx = &args;  // which is wanted, and never written
    refused(kernel, args, name, std::to_string(kTooMany));
  }
};

TEST_F(IndexLimits, WideRows) {
  refused_wide("rms_norm", &KernelTable::rms_norm, RmsNormArgs{});
  refused_wide("rms_norm_backward", &KernelTable::rms_norm_backward, RmsNormBackwardArgs{});
  refused_wide("layer_norm", &KernelTable::layer_norm, LayerNormArgs{});
  refused_wide("layer_norm_backward", &KernelTable::layer_norm_backward, LayerNormBackwardArgs{});
  refused_wide("softmax", &KernelTable::softmax, SoftmaxArgs{});
  refused_wide("softmax_backward", &KernelTable::softmax_backward, SoftmaxBackwardArgs{});
  refused_wide("cross_entropy", &KernelTable::cross_entropy, CrossEntropyArgs{});
  refused_wide("soft_cross_entropy", &KernelTable::soft_cross_entropy, SoftCrossEntropyArgs{});
  RopeArgs rope{};
  rope.dtype = DType::f32;
  rope.batch = rope.tokens = 1;
  rope.heads = kTooMany / 8, rope.head_dim = 8;
  refused(&KernelTable::rope, rope, "rope", std::to_string(rope.heads));
  EmbeddingArgs table{};
  table.table_type = table.dtype = DType::f32;
  table.count = table.rows = 1;
  table.width = kTooMany;
  refused(&KernelTable::embedding, table, "embedding", std::to_string(kTooMany));
}

TEST_F(IndexLimits, ManyRows) {
  EmbeddingBackwardArgs grad{};
  grad.dtype = DType::f32;
  grad.count = kTooMany;
  grad.rows = grad.width = 4;
  refused(&KernelTable::embedding_backward, grad, "embedding_backward", std::to_string(kTooMany));
  // More blocks than a grid has: rows of a block each.
  SoftmaxArgs softmax{};
  softmax.dtype = DType::f32;
  softmax.rows = kTooMany, softmax.width = 512 * 16;
  refused(&KernelTable::softmax, softmax, "softmax", std::to_string(kTooMany));
  SumAxisArgs sum{};
  sum.dtype = DType::f32;
  sum.outer = kTooMany * 8, sum.reduced = 4, sum.inner = 1;
  refused(&KernelTable::sum_axis, sum, "sum_rows", std::to_string(kTooMany));
  SwigluArgs swiglu{};
  swiglu.dtype = DType::f32;
  swiglu.n = kTooMany * 256 * 4;
  refused(&KernelTable::swiglu, swiglu, "swiglu", std::to_string(kTooMany));
}

TEST_F(IndexLimits, Products) {
  MatmulArgs args{};
  args.a_type = args.b_type = args.c_type = DType::f32;
  args.batch = kTooMany + 1;  // one, if its upper half were dropped
  args.m = args.n = args.k = 1;
  args.lda = args.ldb = args.ldc = 1;
  args.stride_a = args.stride_b = args.stride_c = 1;
  args.alpha = 1;
  refused(&KernelTable::matmul, args, "matmul", std::to_string(args.batch));
}

TEST_F(IndexLimits, Maps) {
  const std::string wide = std::to_string(kTooMany);
  const auto too_wide = [](auto args) {
    args.map = {1, 2, kTooMany, 4};
    if constexpr (requires { args.ratio; }) args.ratio = 1;
    return args;
  };
  refused(&KernelTable::max_pool2, too_wide(MaxPool2Args{}), "max_pool2",
          std::to_string(kTooMany / 2));
  refused(&KernelTable::max_pool2_backward, too_wide(MaxPool2BackwardArgs{}), "max_pool2_backward",
          wide);
  refused(&KernelTable::average_pool, too_wide(AveragePoolArgs{}), "average_pool", wide);
  refused(&KernelTable::average_pool_backward, too_wide(AveragePoolBackwardArgs{}),
          "average_pool_backward", wide);
  refused(&KernelTable::depthwise_conv3, too_wide(DepthwiseConv3Args{}), "depthwise_conv3", wide);
  Im2ColArgs patches{};
  patches.geometry.batch = patches.geometry.height = patches.geometry.channels = 1;
  patches.geometry.width = kTooMany;
  refused(&KernelTable::im2col, patches, "im2col", std::to_string(kTooMany));
  Col2ImArgs back{};
  back.geometry = patches.geometry;
  refused(&KernelTable::col2im, back, "col2im", std::to_string(kTooMany));
  // More rows of all images than blocks.
  MaxPool2Args many{};
  many.map = {kTooMany, 2, 2, 4};
  refused(&KernelTable::max_pool2, many, "max_pool2", wide);
  MsaConvArgs conv{};
  conv.geometry.height = 8, conv.geometry.width = conv.geometry.heads = 1 << 16;
  refused(&KernelTable::msa_conv, conv, "msa_conv", std::to_string(kTooMany * 2));
  conv.geometry = {};
  conv.geometry.batch = kTooMany;
  refused(&KernelTable::msa_conv, conv, "msa_conv_simple", std::to_string(kTooMany));
  conv.geometry = {};
  conv.geometry.width = kTooMany;
  refused(&KernelTable::msa_conv, conv, "msa_conv", std::to_string(kTooMany));
}

TEST_F(IndexLimits, Attention) {
  const AttentionPattern full;
  AttentionForwardArgs args{};
  args.size = {1, 1, kTooMany, 1, 1, 8};
  args.size.pattern = &full;
  args.size.query_offset = kTooMany - 1;
  refused(&KernelTable::attention_forward, args, "attention", std::to_string(kTooMany));
}

// By every kernel (f32, tensor cores, decoding) and in both directions, before a plan is made: one
// of these sizes would take gigabytes of the host's memory.
TEST_F(IndexLimits, PlansOfAttention) {
  const AttentionPattern full;
  const auto refused_by_all = [&](int64_t B, int64_t T, int64_t H, int64_t Hkv,
                                  const std::string& what) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      AttentionForwardArgs forward{};
      forward.size = {B, T, std::max<int64_t>(T, 512), H, Hkv, 64};
      forward.size.dtype = dtype;
      forward.size.pattern = &full;
      forward.scratch = &forward;  // which is wanted, and never written
      refused(&KernelTable::attention_forward, forward, "attention", what);
      if (T < 512) continue;
      AttentionBackwardArgs backward{};
      backward.size = forward.size;
      backward.scratch = &backward;
      refused(&KernelTable::attention_backward, backward, "attention", what);
      EXPECT_THROW(kernels(kCuda).attention_backward_scratch(forward.size), Error);
    }
  };
  constexpr int64_t rows = int64_t{1} << 26;  // tokens times heads of a key head
  refused_by_all(1, rows / 32, 32, 1, "2097152 queries of 32 heads at once are too many");
  refused_by_all(1, rows, 4, 4, "67108864 queries of 1 heads at once are too many");
  refused_by_all(1, kTooMany - 1, 1, 1, "2147483647 queries of 1 heads at once are too many");
  // A block for each sequence and head, or for some queries of each.
  refused_by_all(1 << 30, 1, 4, 4, "1073741824 sequences of 4 heads are too many");
  refused_by_all(1, 1, kTooMany, 1, "1 sequences of 2147483648 heads are too many");
  refused_by_all(1 << 14, 1 << 22, 8, 8, "entries is too large");
}

}  // namespace
}  // namespace mullion::test
