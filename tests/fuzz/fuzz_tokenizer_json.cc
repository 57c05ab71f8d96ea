// libFuzzer harness of tokenizer.json. What is accepted must tokenize: a text cut from the input
// comes back byte for byte where the vocabulary has all bytes and no merge forms a control token.
#include <algorithm>

#include "data/byte_level.h"
#include "data/tokenizer.h"
#include "tensor/check.h"

namespace {
bool lossless(const mullion::Tokenizer& tokenizer) {
  auto plain = [&](const std::string& text) {
    auto id = tokenizer.find(text);
    return id && tokenizer.type(*id) == mullion::TokenType::normal;
  };
  bool all = tokenizer.parts().model == "gpt2";
  for (int b = 0; b < 256; ++b) {
    char c = static_cast<char>(b);
    all = all && plain(mullion::byte_level_encode({&c, 1}));
  }
  for (std::string joined : tokenizer.parts().merges) {
    std::erase(joined, ' ');
    all = all && plain(joined);
  }
  return all;
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    auto tokenizer = mullion::make_tokenizer(mullion::parse_tokenizer_json(bytes, "fuzz"));
    std::string_view text = bytes.substr(size - size / 4);
    std::string back = tokenizer->decode(tokenizer->encode(text));
    if (lossless(*tokenizer) && back != text) __builtin_trap();
    auto ids = tokenizer->encode(text, {.parse_specials = true});
    tokenizer->decode(ids, {.specials = true});
  } catch (const mullion::Error&) {
  }
  return 0;
}
