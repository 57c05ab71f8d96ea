// A small model and a tokenizer of bytes that has the special texts of every chat template.
#pragma once
#include <filesystem>
#include <memory>
#include <string>

#include "data/byte_level.h"
#include "data/tokenizer_writer.h"
#include "models/llama/load.h"
#include "tests/small_llama_config.h"

namespace mullion::test {

constexpr int64_t kChatVocab = 263;

// Ids 0 to 255 are the bytes.
inline std::unique_ptr<Tokenizer> chat_tokenizer(const std::string& jinja = "") {
  TokenizerParts parts;
  parts.model = "gpt2";
  parts.pre = "gpt-2";
  for (int byte = 0; byte < 256; ++byte)
    parts.tokens.push_back(byte_level_encode(std::string(1, static_cast<char>(byte))));
  parts.types.assign(256, TokenType::normal);
  for (const char* text : {"<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|start_header_id|>",
                           "<|end_header_id|>", "<|eot_id|>"}) {
    parts.tokens.emplace_back(text);
    parts.types.push_back(TokenType::control);
  }
  parts.bos = 256;
  parts.eos = 257;
  parts.add_bos = false;
  parts.chat_template = jinja;
  return make_tokenizer(std::move(parts));
}

inline LlamaConfig chat_config(int64_t context) {
  LlamaConfig c = small_llama_config(8, kChatVocab);
  c.max_position_embeddings = context;
  c.initializer_range = 0.2;
  return c;
}

// A folder of a model that says the digit 7 whatever it reads: all tokens look alike, and one row
// of the head agrees with what they look like.
inline void write_chat_model(const std::filesystem::path& folder, int64_t context,
                             const std::string& jinja) {
  Llama model(chat_config(context));
  for_each_parameter(model, [](const std::string& name, Tensor& p) {
    raw::fill(p, name.find("norm") != std::string::npos || name.find("embed") != std::string::npos
                     ? 1
                     : 0);
    if (name == "lm_head.weight") raw::fill(raw::slice(p, 0, '7', '7' + 1), 1);
  });
  save_llama(folder, model);
  write_tokenizer(*chat_tokenizer(jinja), folder);
}

}  // namespace mullion::test
