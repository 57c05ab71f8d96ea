// libFuzzer harness of tokenizer.json. What is accepted must tokenize: a text cut from the input
// comes back byte for byte, or is refused for a byte that the vocabulary lacks.
#include "data/tokenizer.h"
#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    auto tokenizer = mullion::make_tokenizer(mullion::parse_tokenizer_json(bytes, "fuzz"));
    std::string_view text = bytes.substr(size - size / 4);
    std::string back = tokenizer->decode(tokenizer->encode(text));
    bool lossless = tokenizer->parts().model == "gpt2" && !tokenizer->unk();
    if (lossless && back != text) __builtin_trap();
    auto ids = tokenizer->encode(text, {.parse_specials = true});
    tokenizer->decode(ids, {.specials = true});
  } catch (const mullion::Error&) {
  }
  return 0;
}
