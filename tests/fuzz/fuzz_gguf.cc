// libFuzzer harness of the GGUF reader, its accessors, the tokenizer in it, and the LLaMA
// configuration and view on it.
#include <nlohmann/json.hpp>

#include "models/llama/checkpoint.h"
#include "models/llama/checkpoint_names.h"
#include "tensor/check.h"
#include "tests/fuzz/use_tokenizer.h"

namespace {
using mullion::GgufFile;

template <typename Call>
void unless_refused(const Call& call) {
  try {
    call();
  } catch (const mullion::Error&) {
  }
}

void read_values(const GgufFile& file) {
  for (const std::string& key : file.keys()) {
    unless_refused([&] { file.get_uint(key, UINT64_MAX); });
    unless_refused([&] { file.get_number(key); });
    unless_refused([&] { file.get_bool(key); });
    unless_refused([&] { file.get_string(key); });
    unless_refused([&] { file.get_strings(key); });
    unless_refused([&] { file.get_floats(key); });
    unless_refused([&] { file.get_ints(key); });
  }
}

void read_tensors(const mullion::TensorSource& source, size_t size) {
  for (const mullion::TensorEntry& entry : source.entries()) {
    if (entry.bytes > size) __builtin_trap();  // a tensor never exceeds the file
    std::vector<float> values(entry.count);
    unless_refused([&] { source.read_f32(entry.name, values.data()); });
  }
}

// It can be written as config.json and read back, and its rotary frequencies are usable.
void check_config(const mullion::LlamaConfig& config) {
  const auto again = mullion::parse_llama_config(mullion::to_json(config), "again");
  if (!(again == config)) __builtin_trap();
  if (config.head_dim > 4096) return;
  for (const float frequency : mullion::rope_inv_freq(config)) {
    if (!(frequency > 0 && frequency <= 1)) __builtin_trap();
  }
}
}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  unless_refused([&] {
    const auto file = std::make_shared<GgufFile>(
        mullion::view_bytes(std::as_bytes(std::span(data, size)), "fuzz"));
    read_values(*file);
    read_tensors(*file, size);
    unless_refused([&] {
      const auto tokenizer = mullion::make_tokenizer(mullion::tokenizer_parts(*file));
      const std::string_view bytes(reinterpret_cast<const char*>(data), size);
      mullion::fuzz::use_tokenizer(*tokenizer, bytes.substr(size - size / 4));
    });
    const mullion::LlamaConfig config = mullion::llama_config_of(*file);
    check_config(config);
    const auto view = mullion::hf_view(file, config);
    unless_refused([&] { mullion::check_llama_tensors(config, *view); });
    read_tensors(*view, size);
  });
  return 0;
}
