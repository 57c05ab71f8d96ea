// libFuzzer harness of SentencePiece models. What is accepted must tokenize: a text cut from the
// input comes back byte for byte where the vocabulary has all bytes.
#include "data/tokenizer.h"
#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    auto tokenizer = mullion::make_tokenizer(mullion::parse_sentencepiece_model(bytes, "fuzz"));
    std::string_view text = bytes.substr(size - size / 4);
    std::string back = tokenizer->decode(tokenizer->encode(text));
    bool lossless = tokenizer->find("<0x00>") && !tokenizer->parts().remove_extra_spaces;
    if (lossless && back != text) __builtin_trap();
    auto ids = tokenizer->encode(text, {.parse_specials = true});
    tokenizer->decode(ids, {.specials = true});
  } catch (const mullion::Error&) {
  }
  return 0;
}
