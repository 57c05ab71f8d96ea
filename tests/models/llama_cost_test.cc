// What a step is said to take, from a configuration, against models of it.
#include "models/llama/cost.h"

#include <gtest/gtest.h>

#include "autograd/engine.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

TEST(LlamaCost, CountsTheParametersOfTheModel) {
  for (const bool tied : {false, true})
    for (const bool also : {false, true}) {
      LlamaConfig config = test::small_llama_config();
      config.tie_word_embeddings = tied;
      LoraOptions lora;
      lora.rank = 3;
      lora.targets = {"v_proj", "down_proj"};
      lora.train_embedding = lora.train_norms = also;
      Llama model(config);
      const int64_t whole = parameter_count(named_parameters(model));
      EXPECT_EQ(llama_cost(config, {}).parameters, whole);
      EXPECT_EQ(llama_cost(config, {}).trained, whole);
      add_lora(model, lora, 1);
      EXPECT_EQ(llama_cost(config, {.lora = lora}).trained,
                parameter_count(trainable_parameters(model)));
    }
}

// The tied head stays, frozen, beside an embedding that is trained: as much as one of its own.
TEST(LlamaCost, CountsTheHeadBesideATrainedEmbedding) {
  LlamaConfig tied = test::small_llama_config(), untied = tied;
  tied.tie_word_embeddings = true;
  untied.tie_word_embeddings = false;
  for (const DType frozen : {DType::f32, DType::bf16}) {
    const LlamaStep step{.lora = LoraOptions{.train_embedding = true}, .frozen_type = frozen};
    EXPECT_EQ(llama_cost(tied, step).bytes, llama_cost(untied, step).bytes);
  }
}

TEST(LlamaCost, WhatIsComputedAgainTakesTimeForMemory) {
  const LlamaConfig config = test::small_llama_config();
  LlamaStep step{.context = 64, .pass_tokens = 4096, .rows = 64, .row_tokens = 64};
  PatternOptions full;
  full.n_heads = config.num_attention_heads;
  full.context = step.context;
  step.pattern = make_pattern("full", full);
  LlamaCost before = llama_cost(config, step);
  for (const Recompute what : {Recompute::mlp, Recompute::block}) {
    step.recompute = what;
    const LlamaCost cost = llama_cost(config, step);
    EXPECT_LT(cost.bytes, before.bytes);
    EXPECT_GT(cost.operations, before.operations);
    before = cost;
  }
  step.rows *= 2;
  EXPECT_EQ(llama_cost(config, step).operations, 2 * before.operations);
}

// What is kept and computed with, beyond what a step of no tokens takes: the most that lives while
// a step is made.
TEST(LlamaCost, SaysWhatAStepTakes) {
  LlamaConfig config = test::small_llama_config(32);
  config.num_hidden_layers = 6;
  config.max_position_embeddings = 1024;
  const std::vector<std::string> of_attention = LoraOptions{}.targets;
  std::vector<std::string> all = of_attention;
  all.insert(all.end(), {"gate_proj", "up_proj", "down_proj"});
  std::vector<int64_t> tokens(1024);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int64_t>(i * 7 % 50);
  const Tensor ids = Tensor::from(tokens, {1, 1024});
  for (const auto& targets : {of_attention, all, {}})  // the last: no LoRA
    for (const Recompute what : {Recompute::none, Recompute::mlp, Recompute::block}) {
      Llama model(config);
      model.initialize(1);
      LlamaStep step{.recompute = what, .context = 1024};
      set_trainable(model, [](const std::string&) { return true; });
      if (!targets.empty()) {
        step.lora = LoraOptions{.rank = 2, .targets = targets, .train_embedding = false};
        add_lora(model, *step.lora, 1);
      }
      model.set_recompute(what);
      const LlamaCost nothing = llama_cost(config, step);
      step.pass_tokens = 1024;
      const double said = llama_cost(config, step).bytes - nothing.bytes;
      reset_peak_memory();
      const int64_t before = memory_use().live;
      backward(model.loss(ids, ids, 1.0 / 1024));
      const int64_t gradients = step.lora ? 4 * nothing.trained : 0;
      const auto taken = static_cast<double>(memory_use().peak - before - gradients);
      EXPECT_NEAR(said / taken, 1, 0.1)
          << targets.size() << " targets, recompute " << static_cast<int>(what);
    }
}

}  // namespace
}  // namespace mullion
