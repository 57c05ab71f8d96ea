// The LLaMA of the tests: two layers, four heads that share two of keys, 64 positions.
#pragma once
#include "models/llama/config.h"

namespace mullion::test {

inline LlamaConfig small_llama_config(int64_t head_dim = 8, int64_t vocabulary = 50) {
  LlamaConfig c;
  c.vocab_size = vocabulary;
  c.hidden_size = 4 * head_dim;
  c.intermediate_size = 6 * head_dim;
  c.num_hidden_layers = 2;
  c.num_attention_heads = 4;
  c.num_key_value_heads = 2;
  c.head_dim = head_dim;
  c.max_position_embeddings = 64;
  return c;
}

}  // namespace mullion::test
