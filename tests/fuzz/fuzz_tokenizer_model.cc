// libFuzzer harness of SentencePiece models. What is accepted must tokenize a text cut from the
// input.
#include "tensor/check.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    const auto tokenizer =
        mullion::make_tokenizer(mullion::parse_sentencepiece_model(bytes, "fuzz"));
    mullion::fuzz::use_tokenizer(*tokenizer, bytes.substr(size - size / 4));
  } catch (const mullion::Error&) {
  }
  return 0;
}
