// lora_dropout in a LLaMA: what training draws, that nothing but the pass decides it, and that
// evaluation has none.
#include <gtest/gtest.h>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/load.h"
#include "nn/init.h"
#include "tensor/parallel.h"
#include "tensor/random.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

using Floats = std::vector<float>;

std::unique_ptr<Llama> model_of(double dropout, Recompute recompute = Recompute::none) {
  auto model = std::make_unique<Llama>(test::small_llama_config(4));
  model->initialize(3);
  LoraOptions lora;
  lora.rank = 2, lora.dropout = dropout;
  lora.targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
  add_lora(*model, lora, 11);
  for (auto& [name, p] : named_parameters(*model))
    if (name.ends_with("lora_B.weight")) init::normal(p, 0.1, 5, init::stream_of(name));
  model->set_recompute(recompute);
  return model;
}

Tensor ids(int64_t count, int64_t length) {
  std::vector<int64_t> values;
  for (int64_t i = 0; i < count * length; ++i) values.push_back(i * 7919 % 50);
  return Tensor::from(values, {count, length});
}

// The loss and all gradients of one pass; without a stream where `pass` is negative.
std::vector<Floats> outcome(Llama& model, int64_t pass) {
  const Tensor x = ids(2, 12);
  const auto parameters = trainable_parameters(model);
  clear_grads(parameters);
  const Tensor stream = pass < 0 ? Tensor() : Tensor::from(std::vector<int64_t>{pass}, {1});
  const Tensor loss = model.loss(x, x, 1.0 / 24, stream);
  backward(loss);
  std::vector<Floats> result = {loss.to_vector<float>()};
  for (const NamedParameter& p : parameters) result.push_back(grad(p.value).to_vector<float>());
  return result;
}

TEST(LoraDropout, OfProbabilityZeroIsNone) {
  const auto with = model_of(0), same = model_of(0);
  EXPECT_EQ(outcome(*with, 4), outcome(*same, -1));
}

TEST(LoraDropout, IsAFunctionOfThePass) {
  const auto model = model_of(0.3);
  const auto first = outcome(*model, 4);
  EXPECT_EQ(first, outcome(*model, 4));
  EXPECT_EQ(first, outcome(*model_of(0.3), 4));
  EXPECT_NE(first, outcome(*model, 5));
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    EXPECT_EQ(first[0], outcome(*model, 4)[0]) << threads;
  }
  set_num_threads(0);
}

TEST(LoraDropout, IsDrawnAgainWhereActivationsAre) {
  const auto plain = outcome(*model_of(0.3), 4);
  for (const Recompute what : {Recompute::mlp, Recompute::block})
    EXPECT_EQ(plain, outcome(*model_of(0.3, what), 4));
}

TEST(LoraDropout, EvaluationHasNone) {
  const auto with = model_of(0.9), without = model_of(0);
  EXPECT_EQ(outcome(*with, -1), outcome(*without, -1));
  EXPECT_NE(outcome(*with, 1), outcome(*without, -1));
  const NoGrad no_grad;
  EXPECT_EQ(with->logits(ids(1, 9)).to_vector<float>(),
            without->logits(ids(1, 9)).to_vector<float>());
}

// A of identity rows shows the mask: its share, its scale, its mean over passes, and that each
// projection has its own.
TEST(LoraDropout, KeepsItsShareAndItsMean) {
  constexpr int64_t kWidth = 64, kRows = 500;
  Tensor identity = Tensor::zeros({kWidth, kWidth});
  float* diagonal = identity.data<float>();
  for (int64_t i = 0; i < kWidth; ++i) diagonal[i * kWidth + i] = 1;
  const Tensor x = Tensor::full({kRows, kWidth}, 1.0), w = Tensor::zeros({kWidth, kWidth});
  const double p = 0.2;
  Floats mean(kRows * kWidth);
  double kept = 0, both = 0;
  constexpr int kPasses = 40;
  for (int64_t pass = 0; pass < kPasses; ++pass) {
    const Tensor stream = Tensor::from(std::vector<int64_t>{pass}, {1});
    const auto y = lora_linears(x, {{w, identity, identity, {}, 1}, {w, identity, identity, {}, 2}},
                                1, {}, {p, stream});
    const auto a = y[0].to_vector<float>(), b = y[1].to_vector<float>();
    for (size_t i = 0; i < a.size(); ++i) {
      ASSERT_TRUE(a[i] == 0 || std::abs(a[i] - 1.25f) < 1e-6f) << a[i];
      mean[i] += a[i] / kPasses;
      kept += a[i] > 0;
      both += a[i] > 0 && b[i] > 0;
    }
  }
  const double draws = static_cast<double>(kPasses) * kRows * kWidth;
  const auto within = [&](double share, double expected) {  // five deviations
    return std::abs(share - expected) < 5 * std::sqrt(expected * (1 - expected) / draws);
  };
  EXPECT_TRUE(within(kept / draws, 1 - p)) << kept / draws;
  EXPECT_TRUE(within(both / draws, (1 - p) * (1 - p))) << both / draws;
  for (const float m : mean) EXPECT_NEAR(m, 1, 0.6);
}

}  // namespace
}  // namespace mullion
