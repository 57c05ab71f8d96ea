// LLaMA against transformers and PEFT (logits, losses, gradients, six steps of fine-tuning), and
// what must hold for it by itself.
#include "models/llama/model.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "models/llama/load.h"
#include "nn/init.h"
#include "optim/optimizer.h"
#include "tests/golden.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

LlamaConfig config_of(const test::Golden& golden, const std::string& name) {
  nlohmann::json json = golden.options(name).at("config");
  json["model_type"] = "llama";
  json["architectures"] = {"LlamaForCausalLM"};
  return parse_llama_config(json, name);
}

std::unique_ptr<Llama> golden_model(const test::Golden& golden, const std::string& name) {
  auto model = std::make_unique<Llama>(config_of(golden, name));
  for_each_parameter(*model, [&](const std::string& parameter, Tensor& p) {
    raw::copy_into(golden.tensor("parameters." + parameter), p);
  });
  return model;
}

// Each position's target is the next token; the last has none.
Tensor next_tokens(const Tensor& ids) {
  const auto [B, T] = dims<2>("reference", "ids", ids);
  auto values = ids.to_vector<int64_t>();
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      values[static_cast<size_t>(b * T + t)] =
          t + 1 < T ? values[static_cast<size_t>(b * T + t + 1)] : -100;
  return Tensor::from(values, ids.shape());
}

double mean_loss_scale(const Tensor& ids) {
  return 1.0 / static_cast<double>(ids.dim(0) * (ids.dim(1) - 1));
}

class LlamaGolden : public testing::TestWithParam<const char*> {};

TEST_P(LlamaGolden, LogitsLossAndGradients) {
  const test::Golden golden("llama");
  const std::string name = GetParam();
  const Tensor ids = golden.tensor("ids.input");
  for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::block}) {
    const auto model = golden_model(golden, name);
    model->set_recompute(recompute);
    set_trainable(*model, [](const std::string&) { return true; });
    {
      NoGrad no_grad;
      EXPECT_LT(test::relative_error(model->logits(ids), golden.tensor(name + ".logits")), 1e-5);
    }
    const Tensor loss = model->loss(ids, next_tokens(ids), mean_loss_scale(ids));
    EXPECT_NEAR(loss.item(), golden.tensor(name + ".loss").item(), 1e-5);
    backward(loss);
    int compared = 0;
    for (const NamedParameter& p : named_parameters(*model)) {
      if (!golden.has(name + ".grad." + p.name)) continue;
      ++compared;
      EXPECT_LT(test::relative_error(grad(p.value), golden.tensor(name + ".grad." + p.name)), 2e-5)
          << p.name << " (recompute " << static_cast<int>(recompute) << ")";
    }
    EXPECT_GT(compared, 0);
  }
}
INSTANTIATE_TEST_SUITE_P(All, LlamaGolden,
                         testing::Values("tied", "untied", "rope_linear", "rope_llama3"),
                         [](const auto& each) { return std::string(each.param); });

// Six steps of LoRA with embedding and norms under SF attention, as PEFT made them with a dense
// mask.
TEST(Llama, FineTunesAsPeftDoes) {
  const test::Golden golden("llama");
  const nlohmann::json o = golden.options("lora_sf");
  const auto model = golden_model(golden, "tied");
  LoraOptions lora;
  lora.rank = o.at("rank");
  lora.alpha = o.at("alpha");
  add_lora(*model, lora, 1);
  const auto parameters = trainable_parameters(*model);
  std::map<std::string, Tensor> by_name;
  for (const NamedParameter& p : parameters) by_name[p.name] = p.value;
  int filled = 0;
  const std::string prefix = "lora_sf.initial.";
  for (const std::string& name : golden.names()) {
    if (name.rfind(prefix, 0) != 0) continue;
    const AdapterKey key = parse_adapter_key(name.substr(prefix.size()), "golden");
    const char* end = key.kind == AdapterKey::Kind::lora_a   ? ".lora_A.weight"
                      : key.kind == AdapterKey::Kind::lora_b ? ".lora_B.weight"
                                                             : ".weight";
    raw::copy_into(golden.tensor(name), by_name.at(key.module + end));
    ++filled;
  }
  EXPECT_EQ(filled, static_cast<int>(parameters.size()));
  const Tensor rows = golden.tensor("lora_sf.rows");
  PatternOptions pattern;
  pattern.n_heads = model->config().num_attention_heads;
  pattern.context = rows.dim(1);
  pattern.group_size = o.at("pattern").at("group");
  pattern.sinks = o.at("pattern").at("sinks");
  model->set_pattern(make_pattern("sf", pattern));
  const auto optimizer = make_adamw({{parameters, 1, 0}}, {0.9, 0.95, 1e-8});
  const auto expected = golden.tensor("lora_sf.losses").to_vector<double>();
  for (int64_t step = 0; step < static_cast<int64_t>(expected.size()); ++step) {
    const Tensor ids = raw::contiguous(raw::slice(rows, 0, 2 * step, 2 * step + 2));
    clear_grads(parameters);
    const Tensor loss = model->loss(ids, next_tokens(ids), mean_loss_scale(ids));
    EXPECT_NEAR(loss.item(), expected[static_cast<size_t>(step)], 2e-5) << "step " << step;
    backward(loss);
    optimizer->step(o.at("optimizer").at("lr"));
  }
}

LlamaConfig small() { return test::small_llama_config(4); }

Tensor some_ids(int64_t B, int64_t T, int64_t vocab) {
  std::vector<int64_t> ids(static_cast<size_t>(B * T));
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<int64_t>(i * 7919 % 101) % vocab;
  return Tensor::from(ids, {B, T});
}

// With pairs on all projections, in a model of which one block in three keeps its MLP, and with a
// trained norm, which the backward of the pairs computes again.
TEST(Llama, RecomputationGivesTheSameBits) {
  LlamaConfig config = small();
  config.num_hidden_layers = 3;
  const Tensor ids = some_ids(2, 12, config.vocab_size);
  std::map<std::string, std::vector<float>> expected;
  for (const Recompute recompute : {Recompute::none, Recompute::mlp, Recompute::block}) {
    Llama model(config);
    model.initialize(5);
    LoraOptions lora;
    lora.targets = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};
    add_lora(model, lora, 9);
    const auto parameters = trainable_parameters(model);
    for (NamedParameter p : parameters)  // B is zero at first, and A then gets no gradient
      if (p.name.find("lora_B") != std::string::npos) init::constant(p.value, 0.01);
    model.set_recompute(recompute);
    backward(model.loss(ids, next_tokens(ids), mean_loss_scale(ids)));
    for (const NamedParameter& p : parameters) {
      const auto values = grad(p.value).to_vector<float>();
      if (recompute == Recompute::none) {
        EXPECT_TRUE(std::any_of(values.begin(), values.end(), [](float g) { return g != 0; }));
        expected[p.name] = values;
      }
      EXPECT_EQ(values, expected[p.name])
          << p.name << " (recompute " << static_cast<int>(recompute) << ")";
    }
  }
}

TEST(Llama, LoraChangesNothingAtFirstAndLeavesTheBaseAlone) {
  LlamaConfig config = small();
  config.tie_word_embeddings = true;
  Llama model(config);
  model.initialize(5);
  const Tensor ids = some_ids(2, 12, config.vocab_size);
  const auto before = [&] {
    NoGrad no_grad;
    return model.logits(ids).to_vector<float>();
  }();
  LoraOptions lora;
  lora.rank = 4;
  add_lora(model, lora, 9);
  {
    NoGrad no_grad;
    EXPECT_EQ(before, model.logits(ids).to_vector<float>());
  }
  std::map<std::string, std::vector<float>> frozen;
  for (const NamedParameter& p : named_parameters(model))
    if (!requires_grad(p.value)) frozen[p.name] = p.value.to_vector<float>();
  EXPECT_TRUE(frozen.count("lm_head.weight"));
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0}});
  for (int step = 0; step < 3; ++step) {
    clear_grads(parameters);
    backward(model.loss(ids, next_tokens(ids), mean_loss_scale(ids)));
    optimizer->step(1e-2);
  }
  for (const NamedParameter& p : named_parameters(model))
    if (frozen.count(p.name)) {
      EXPECT_EQ(frozen[p.name], p.value.to_vector<float>()) << p.name;
    }
  for (const NamedParameter& p : parameters) {
    const double norm = global_grad_norm({p});
    EXPECT_TRUE(std::isfinite(norm) && norm > 0) << p.name;
  }
}

TEST(Llama, TheCacheGivesTheSameLogitsAsTheWholeText) {
  Llama model(small());
  model.initialize(2);
  NoGrad no_grad;
  const Tensor ids = some_ids(1, 20, 50);
  const Tensor whole = model.logits(ids);
  const auto cache = make_kv_cache({}, model.cache_shape());
  for (const auto& [begin, end] : {std::pair{0, 7}, {7, 8}, {8, 9}, {9, 15}, {15, 20}}) {
    const Tensor part = model.logits(raw::contiguous(raw::slice(ids, 1, begin, end)), cache.get());
    EXPECT_LT(test::relative_error(part, raw::slice(whole, 1, begin, end)), 1e-5);
  }
  // Beyond the context of 64.
  EXPECT_THROW(model.logits(some_ids(1, 45, 50), cache.get()), Error);
}

// What the cache holds has no gradient, so keys and values that need one would lose it.
TEST(Llama, ACacheIsForEvaluation) {
  Llama model(small());
  model.initialize(2);
  set_trainable(model, [](const std::string&) { return true; });
  const auto cache = make_kv_cache({}, model.cache_shape());
  try {
    model.logits(some_ids(1, 20, 50), cache.get());
    FAIL();
  } catch (const Error& error) {
    EXPECT_TRUE(std::string(error.what()).starts_with("KV cache: has no backward"));
  }
}

TEST(Llama, ATextBeyondTheContextIsRefused) {
  Llama model(small());
  model.initialize(2);
  NoGrad no_grad;
  EXPECT_THROW(model.logits(some_ids(1, 65, 50)), Error);
}

TEST(Llama, OverfitsOneBatch) {
  Llama model(small());
  model.initialize(4);
  set_trainable(model, [](const std::string&) { return true; });
  const auto parameters = trainable_parameters(model);
  const auto optimizer = make_adamw({{parameters, 1, 0}});
  const Tensor ids = some_ids(2, 16, 50), targets = next_tokens(ids);
  double loss = 0;
  for (int step = 0; step < 100; ++step) {
    clear_grads(parameters);
    const Tensor l = model.loss(ids, targets, mean_loss_scale(ids));
    backward(l);
    optimizer->step(1e-2);
    loss = l.item();
  }
  EXPECT_LT(loss, 0.1);
}

}  // namespace
}  // namespace mullion
