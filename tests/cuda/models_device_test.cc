// Both models train on the device as on the CPU: ten steps, the same losses to 1e-5, and the same
// bits in every order of threads. Beside frozen weights held in bf16 as well.
#include <cmath>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/load.h"
#include "models/llama/model.h"
#include "models/tic/model.h"
#include "optim/optimizer.h"
#include "tensor/attention_pattern.h"
#include "tests/cuda/device_runs.h"
#include "tests/small_llama_config.h"

namespace mullion::test {
namespace {

constexpr int kSteps = 10;
constexpr double kTolerance = 1e-5;

class ModelsOnDevice : public OnDevice<> {};

struct Training {
  std::vector<double> losses;
  std::vector<std::vector<float>> parameters;  // after the last step
};

void put_on(Module& model, Device device) {
  for_each_parameter(model, [&](const std::string&, Tensor& p) {
    const bool trainable = requires_grad(p);
    p = raw::to_device(detached(p), device);
    set_requires_grad(p, trainable);
  });
}

// Ten steps of AdamW; loss(step) is the model's.
template <typename Loss>
Training train(Module& model, double lr, Loss loss_of) {
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0.01}}, {0.9, 0.95, 1e-8});
  Training result;
  for (int step = 0; step < kSteps; ++step) {
    clear_grads(parameters);
    const Tensor loss = loss_of(step);
    result.losses.push_back(loss.item());
    backward(loss);
    optimizer->step(lr);
  }
  for (const NamedParameter& p : parameters) {
    EXPECT_EQ(p.value.dtype(), DType::f32) << p.name;
    result.parameters.push_back(p.value.to_vector<float>());
  }
  return result;
}

Tensor tokens(int64_t B, int64_t T, int64_t vocab, int seed) {
  std::vector<int64_t> ids(static_cast<size_t>(B * T));
  for (size_t i = 0; i < ids.size(); ++i)
    ids[i] = static_cast<int64_t>((i * 7919 + static_cast<size_t>(seed) * 104729) % 1009) % vocab;
  return Tensor::from(ids, {B, T});
}

// A LLaMA with grouped queries and LoRA beside every projection, under SF attention.
Training train_llama(Device device, DType frozen, DType activations, double lr = 2e-2) {
  const LlamaConfig config = test::small_llama_config();
  Llama model(config);
  model.initialize(5);
  LoraOptions lora;
  lora.rank = 4;
  add_lora(model, lora, 9);
  PatternOptions pattern;
  pattern.n_heads = config.num_attention_heads;
  pattern.context = 24;
  pattern.group_size = 8;
  pattern.sinks = 4;
  model.set_pattern(make_pattern("sf", pattern));
  for_each_parameter(model, [&](const std::string&, Tensor& p) {
    if (p.rank() == 2 && !requires_grad(p)) p = raw::cast(p, frozen);
  });
  put_on(model, device);
  model.set_compute_type(activations);
  return train(model, lr, [&](int step) {
    const Tensor ids = tokens(2, 25, config.vocab_size, step % 3);
    const Tensor input = raw::contiguous(raw::slice(ids, 1, 0, 24));
    const Tensor target = raw::contiguous(raw::slice(ids, 1, 1, 25));
    return model.loss(raw::to_device(input, device), raw::to_device(target, device), 1.0 / 48);
  });
}

Training train_llama(Device device) { return train_llama(device, DType::f32, DType::f32); }

// A TiC with the shift, pooling between stages and drop path.
Training train_tic(Device device) {
  TicConfig config = tic_preset("tic-n");
  config.dim = 8;
  config.heads = {1, 2, 4};
  Tic model(config);
  model.initialize(3);
  set_trainable(model, [](const std::string&) { return true; });
  put_on(model, device);
  std::vector<float> pixels(4 * 16 * 16 * 3);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = std::sin(static_cast<float>(i * i % 1009));
  const Tensor images = raw::to_device(Tensor::from(pixels, {4, 16, 16, 3}), device);
  const Tensor labels = raw::to_device(Tensor::from(std::vector<int64_t>{0, 1, 2, 3}, {4}), device);
  return train(model, 2e-3, [&](int step) {
    const TicTraining training{0.2, 7, drop_path_streams(config, static_cast<uint64_t>(step))};
    return cross_entropy(model(images, &training), labels, 0.25);
  });
}

void expect_the_same_training(Training (*train_on)(Device)) {
  const Training expected = train_on(Device{});
  EXPECT_LT(expected.losses.back(), expected.losses.front()) << "nothing was learnt";
  Training first;
  in_every_order([&](const std::string& order) {
    SCOPED_TRACE(order);
    const Training actual = train_on(kCuda);
    ASSERT_EQ(actual.losses.size(), expected.losses.size());
    for (size_t step = 0; step < actual.losses.size(); ++step)
      EXPECT_NEAR(actual.losses[step], expected.losses[step], kTolerance) << "step " << step;
    if (first.losses.empty()) first = actual;
    EXPECT_EQ(actual.losses, first.losses);
    EXPECT_EQ(actual.parameters, first.parameters);
  });
}

TEST_F(ModelsOnDevice, LlamaTrainsAsOnTheCpu) { expect_the_same_training(train_llama); }
TEST_F(ModelsOnDevice, TicTrainsAsOnTheCpu) { expect_the_same_training(train_tic); }

TEST_F(ModelsOnDevice, LoraTrainsBesideFrozenWeightsInBf16) {
  expect_the_same_training(
      [](Device device) { return train_llama(device, DType::bf16, DType::f32); });
  // An activation in bf16 is off by 2^-9 of it at most. The loss is a mean over 48 tokens, whose
  // errors go to either side: less than half of that of it. Weights drift apart no faster than a
  // small learning rate lets them.
  const double lr = 2e-3;
  const Training expected = train_llama(Device{}, DType::bf16, DType::f32, lr);
  const Training actual = train_llama(kCuda, DType::bf16, DType::bf16, lr);
  for (size_t step = 0; step < expected.losses.size(); ++step)
    EXPECT_NEAR(actual.losses[step], expected.losses[step], 0x1p-10 * expected.losses[step])
        << "step " << step;
  EXPECT_NE(actual.losses, expected.losses);
  EXPECT_NE(expected.losses, train_llama(Device{}, DType::f32, DType::f32, lr).losses)
      << "the weights were not narrowed";
}

}  // namespace
}  // namespace mullion::test
