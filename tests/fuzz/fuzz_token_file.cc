// libFuzzer harness of token files. The first byte chooses how the rest is read.
#include "data/token_file.h"
#include "tensor/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  mullion::TokenFileOptions options;
  if (data[0] & 1) {
    options.width = data[0] & 2 ? mullion::TokenWidth::u32 : mullion::TokenWidth::u16;
  }
  options.vocab_size = data[0] & 4 ? 300 : 0;
  try {
    mullion::TokenFile file(
        mullion::view_bytes(std::as_bytes(std::span(data + 1, size - 1)), "fuzz"), options);
    if (file.size() * static_cast<uint64_t>(file.width()) > size) __builtin_trap();
    for (int32_t id : file.read(0, file.size())) {
      if (id < 0 || static_cast<uint32_t>(id) > file.max_id()) __builtin_trap();
    }
    file.read(file.size() / 2, file.size());  // mostly beyond the end: refused
  } catch (const mullion::Error&) {
  }
  return 0;
}
