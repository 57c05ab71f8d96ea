// What a step is said to take, from a configuration, against models of it.
#include "models/llama/cost.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace mullion
