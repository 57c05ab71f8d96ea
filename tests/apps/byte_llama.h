// A LLaMA over bytes, of a few thousand parameters, for the tests of the evaluations.
#pragma once
#include <filesystem>

#include "models/llama/load.h"
#include "tests/apps/byte_tokenizer.h"
#include "tests/small_llama_config.h"

namespace mullion::test {

inline LlamaConfig byte_config(const Tokenizer& tokenizer, int64_t context) {
  LlamaConfig c = small_llama_config(4, tokenizer.vocab_size());
  c.max_position_embeddings = context;
  c.initializer_range = 0.3;
  c.eos_token_ids = {*tokenizer.eos()};
  return c;
}

// config.json, model.safetensors and the tokenizer.
inline void write_byte_llama(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                             int64_t context) {
  Llama model(byte_config(tokenizer, context));
  model.initialize(3);
  save_llama(folder, model);
  write_tokenizer(tokenizer, folder);
}

}  // namespace mullion::test
