// libFuzzer harness of the JSON reader, and of the model and adapter configurations behind it.
#include <nlohmann/json.hpp>

#include "models/llama/config.h"
#include "models/llama/peft.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace {
using nlohmann::json;

// What is accepted and written is accepted again, as the same value.
void model_config(const json& value) {
  const mullion::LlamaConfig config = mullion::parse_llama_config(value, "fuzz");
  mullion::LlamaConfig again = mullion::parse_llama_config(mullion::to_json(config), "again");
  if (!(again == config)) __builtin_trap();
  if (config.head_dim <= 4096) {
    for (const float frequency : mullion::rope_inv_freq(config)) {
      if (!(frequency > 0 && frequency <= 1)) __builtin_trap();
    }
  }
  mullion::extend_context(again, 4096);
}

void adapter_config(const json& value) {
  const mullion::AdapterConfig config = mullion::parse_adapter_config(value, "fuzz");
  if (!(mullion::parse_adapter_config(mullion::to_json(config), "again") == config)) {
    __builtin_trap();
  }
}

template <typename Call>
void unless_refused(const Call& call) {
  try {
    call();
  } catch (const mullion::Error&) {
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  json value;
  try {
    value = mullion::parse_json(text, "fuzz");
  } catch (const mullion::Error&) {
    return 0;
  }
  if (mullion::parse_json(value.dump(), "again") != value) __builtin_trap();
  unless_refused([&] { model_config(value); });
  unless_refused([&] { adapter_config(value); });
  return 0;
}
