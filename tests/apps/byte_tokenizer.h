// A tokenizer of all bytes, some merged tokens and an end, for the tests of the evaluations.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/byte_level.h"
#include "data/tokenizer_writer.h"

namespace mullion::test {

// Ids 0 to 255 are the bytes, then come `merged`, made by `merges`, and "<|end|>" last.
inline std::unique_ptr<Tokenizer> byte_tokenizer(const std::vector<std::string>& merged = {},
                                                 std::vector<std::string> merges = {}) {
  TokenizerParts parts;
  parts.model = "gpt2";
  parts.pre = "gpt-2";
  for (int byte = 0; byte < 256; ++byte)
    parts.tokens.push_back(byte_level_encode(std::string(1, static_cast<char>(byte))));
  parts.tokens.insert(parts.tokens.end(), merged.begin(), merged.end());
  parts.tokens.emplace_back("<|end|>");
  parts.types.assign(parts.tokens.size(), TokenType::normal);
  parts.types.back() = TokenType::control;
  parts.merges = std::move(merges);
  parts.eos = static_cast<int32_t>(parts.tokens.size()) - 1;
  parts.add_bos = false;
  return make_tokenizer(std::move(parts));
}

}  // namespace mullion::test
