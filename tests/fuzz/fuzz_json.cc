// libFuzzer harness of the JSON reader and of the model configuration behind it.
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto json = mullion::parse_json(text, "fuzz");
    // What was read can be written, and reads back as the same value.
    if (mullion::parse_json(json.dump(), "again") != json) __builtin_trap();
  } catch (const mullion::Error&) {
  }
  return 0;
}
