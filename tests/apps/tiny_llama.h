// A LLaMA of a few thousand parameters in a Hugging Face folder, and rows of the lexicon's
// language, for the tests of the programs.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/lexicon.h"
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "models/llama/load.h"
#include "tests/small_llama_config.h"

namespace mullion::test {

constexpr int64_t kTinyContext = 64;

inline LlamaConfig tiny_config(int64_t head_dim = 8) {
  LlamaConfig c = small_llama_config(head_dim, kLexiconVocab);
  c.max_position_embeddings = kTinyContext;
  c.initializer_range = 0.1;  // far from uniform, so that any two models differ clearly
  c.bos_token_id = kLexiconBos;
  c.eos_token_ids = {kLexiconEos};
  return c;
}

// config.json, model.safetensors and the lexicon's tokenizer.
inline void write_tiny_llama(const std::filesystem::path& folder,
                             const LlamaConfig& config = tiny_config(), uint64_t seed = 1) {
  Llama model(config);
  model.initialize(seed);
  save_llama(folder, model);
  write_lexicon_tokenizer(folder);
}

// `rows` documents of `length` tokens, with the header and side file of data_llama lexicon.
inline void write_lexicon_tokens(const std::filesystem::path& file, int64_t rows,
                                 int64_t length = kTinyContext, uint64_t first = 0) {
  TokenFileWriter writer(file, TokenWidth::u16);
  const Lexicon language(7);
  std::vector<int32_t> row(static_cast<size_t>(length));
  for (int64_t i = 0; i < rows; ++i) {
    language.document(first + static_cast<uint64_t>(i), row);
    writer.begin_document();
    writer.append(row);
  }
  writer.finish();
}

}  // namespace mullion::test
