// What every harness does with a tokenizer that was accepted: a text comes back byte for byte where
// the vocabulary has all bytes and no merge forms a token that decoding would change or leave out.
#pragma once
#include <algorithm>
#include <string>
#include <string_view>

#include "data/byte_level.h"
#include "data/tokenizer.h"

namespace mullion::fuzz {

inline bool lossless(const Tokenizer& tokenizer) {
  auto is = [&](const std::string& text, TokenType type) {
    auto id = tokenizer.find(text);
    return id && tokenizer.type(*id) == type;
  };
  bool all = true;
  if (tokenizer.parts().model == "gpt2") {
    for (int b = 0; b < 256; ++b) {
      char c = static_cast<char>(b);
      all = all && is(byte_level_encode({&c, 1}), TokenType::normal);
    }
  } else {  // all byte tokens or none
    const TokenizerParts& parts = tokenizer.parts();
    // Metaspace gives "a" and " a" the same ids.
    all = is("<0x00>", TokenType::byte) && !parts.remove_extra_spaces &&
          !(parts.metaspace && parts.add_space_prefix);
  }
  for (std::string joined : tokenizer.parts().merges) {
    std::erase(joined, ' ');
    all = all && is(joined, TokenType::normal);
  }
  return all;
}

inline void use_tokenizer(const Tokenizer& tokenizer, std::string_view text) {
  const std::string back = tokenizer.decode(tokenizer.encode(text));
  // SentencePiece's symbol for a space is one in a text as well.
  const bool spaces = tokenizer.parts().model == "llama" && text.find("\xE2\x96\x81") != text.npos;
  if (lossless(tokenizer) && !spaces && back != text) __builtin_trap();
  const auto ids = tokenizer.encode(text, {.parse_specials = true});
  tokenizer.decode(ids, {.specials = true});
}

}  // namespace mullion::fuzz
