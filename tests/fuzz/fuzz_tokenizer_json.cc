// libFuzzer harness of tokenizer.json. What is accepted must tokenize: what follows the first zero
// byte, which no JSON text has, or else the end of the file itself.
#include "tensor/check.h"
#include "tests/fuzz/use_tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const size_t zero = bytes.find('\0');
  const bool own_text = zero != bytes.npos;
  const std::string_view file = bytes.substr(0, zero);
  const std::string_view text = bytes.substr(own_text ? zero + 1 : size - size / 4);
  try {
    const auto tokenizer = mullion::make_tokenizer(mullion::parse_tokenizer_json(file, "fuzz"));
    mullion::fuzz::use_tokenizer(*tokenizer, text);
  } catch (const mullion::Error&) {
  }
  return 0;
}
