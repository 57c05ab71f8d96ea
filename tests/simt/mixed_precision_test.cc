// What --amp bf16 sets reaches the kernels it is for: q, k and v of both models come to the tensor
// cores in bf16, forward and backward, and the loss is the CPU's in f32 up to that type's rounding.
// In f32 the same models take the other kernels, so that the counts can tell them apart.
#include <cmath>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/load.h"
#include "models/llama/model.h"
#include "models/tic/model.h"
#include "tensor/attention_pattern.h"
#include "tensor/precision.h"
#include "tests/cuda/device_runs.h"
#include "tests/small_llama_config.h"

namespace mullion::test {
namespace {

class MixedPrecision : public OnDevice<> {
 protected:
  void TearDown() override {
    set_product_precision({});
    OnDevice<>::TearDown();
  }
};

// One pass forward and backward on the device, in a compute type.
double llama_pass(DType type, Device device) {
  LlamaConfig config = small_llama_config(64, 40);
  config.num_hidden_layers = 1;
  Llama model(config);
  model.initialize(5);
  LoraOptions lora;
  lora.rank = 4;
  add_lora(model, lora, 9);
  // The frozen base is stored in bf16, as a checkpoint is.
  for_each_parameter(model, [&](const std::string&, Tensor& p) {
    if (type == DType::bf16 && p.rank() == 2 && !requires_grad(p)) p = raw::cast(p, DType::bf16);
  });
  move_to(model, device);
  model.set_compute_type(type);
  set_product_precision({.bf16 = type == DType::bf16});
  PatternOptions pattern;
  pattern.n_heads = config.num_attention_heads;
  pattern.context = 24;
  pattern.group_size = 8;
  pattern.sinks = 4;
  model.set_pattern(make_pattern("sf", pattern));
  std::vector<int64_t> ids(24);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i * 7 % 40);
  const Tensor tokens = Tensor::from(ids, {1, 24});
  const Tensor loss = model.loss(tokens, tokens, 1.0 / 24);
  backward(loss);
  for (const NamedParameter& p : trainable_parameters(model)) {
    EXPECT_EQ(p.value.dtype(), DType::f32) << p.name;
    EXPECT_EQ(grad(p.value).dtype(), DType::f32) << p.name;
  }
  return loss.item();
}

double tic_pass(DType type, Device device) {
  TicConfig config = tic_preset("tic-n");
  config.depths = {2};  // the second block shifts in four directions
  config.heads = {2};   // of 16 channels
  Tic model(config);
  model.initialize(3);
  set_trainable(model, [](const std::string&) { return true; });
  move_to(model, device);
  model.set_compute_type(type);
  set_product_precision({.bf16 = type == DType::bf16});
  std::vector<float> pixels(2 * 16 * 16 * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i * i % 1009));
  const Tensor images = raw::to_device(Tensor::from(pixels, {2, 16, 16, 3}), device);
  const Tensor loss =
      cross_entropy(model(images), Tensor::from(std::vector<int64_t>{3, 7}, {2}), 0.5);
  backward(loss);
  for (const NamedParameter& p : trainable_parameters(model)) {
    EXPECT_EQ(p.value.dtype(), DType::f32) << p.name;
    EXPECT_EQ(grad(p.value).dtype(), DType::f32) << p.name;
  }
  return loss.item();
}

TEST_F(MixedPrecision, LlamaAttendsOnTensorCores) {
  const double exact = llama_pass(DType::f32, Device{});
  const simt::LaunchCounts in_bf16;
  EXPECT_NEAR(llama_pass(DType::bf16, kCuda), exact, 1e-2 * exact);
  for (const char* kernel :
       {"attention_forward", "attention_query_gradient", "attention_key_gradient"})
    EXPECT_EQ(in_bf16.of(kernel), 1) << kernel;
  for (const char* kernel : {"attention_simple_forward", "attention_simple_query_gradient",
                             "attention_simple_key_gradient"})
    EXPECT_EQ(in_bf16.of(kernel), 0) << kernel;
}

TEST_F(MixedPrecision, LlamaInF32DoesNot) {
  const simt::LaunchCounts in_f32;
  EXPECT_NEAR(llama_pass(DType::f32, kCuda), llama_pass(DType::f32, Device{}), 1e-5);
  EXPECT_EQ(in_f32.of("attention_forward"), 0);
  EXPECT_EQ(in_f32.of("attention_simple_forward"), 1);
  EXPECT_EQ(in_f32.of("attention_simple_key_gradient"), 1);
}

TEST_F(MixedPrecision, TicConvolvesOnTensorCores) {
  const double exact = tic_pass(DType::f32, Device{});
  const simt::LaunchCounts in_bf16;
  EXPECT_NEAR(tic_pass(DType::bf16, kCuda), exact, 1e-2 * exact);
  EXPECT_EQ(in_bf16.of("msa_conv_mma"), 2);
  EXPECT_EQ(in_bf16.of("msa_conv_mma_backward"), 2);
  for (const char* kernel : {"msa_conv_simple", "msa_conv_simple_dq", "msa_conv_simple_dkv",
                             "msa_conv_tiled", "msa_conv_tiled_backward"})
    EXPECT_EQ(in_bf16.of(kernel), 0) << kernel;
}

TEST_F(MixedPrecision, TicInF32DoesNot) {
  const simt::LaunchCounts in_f32;
  EXPECT_NEAR(tic_pass(DType::f32, kCuda), tic_pass(DType::f32, Device{}), 1e-5);
  EXPECT_EQ(in_f32.of("msa_conv_mma"), 0);
  EXPECT_EQ(in_f32.of("msa_conv_tiled"), 2);
  EXPECT_EQ(in_f32.of("msa_conv_tiled_backward"), 2);
}

}  // namespace
}  // namespace mullion::test
