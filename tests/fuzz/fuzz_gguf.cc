// libFuzzer harness of the GGUF reader, its accessors, the tokenizer in it, and the LLaMA
// configuration and view on it.
#include <nlohmann/json.hpp>

#include "autograd/ops.h"
#include "models/llama/checkpoint.h"
#include "models/llama/checkpoint_names.h"
#include "nn/state.h"
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

// Blocks are taken where their values are finite, and those then multiply.
void use_blocks(const mullion::TensorSource& source, const mullion::TensorEntry& entry,
                bool readable) {
  mullion::BlockMatrix blocks;
  unless_refused([&] {
    blocks = mullion::load_blocks(source, entry.name, {entry.shape[0], entry.shape[1]}, {});
  });
  if (blocks.defined() != readable) __builtin_trap();
  if (!readable) return;
  const mullion::Tensor x = mullion::Tensor::full({1, blocks.width()}, 1);
  if (mullion::linear(x, blocks).numel() != blocks.rows()) __builtin_trap();
}

void read_tensors(const mullion::TensorSource& source, size_t size) {
  for (const mullion::TensorEntry& entry : source.entries()) {
    if (entry.bytes > size) __builtin_trap();  // a tensor never exceeds the file
    std::vector<float> values(entry.count);
    bool readable = false;
    unless_refused([&] {
      source.read_f32(entry.name, values.data());
      readable = true;
    });
    if (entry.shape.size() == 2 && mullion::is_block_type(entry.type) && entry.count > 0)
      use_blocks(source, entry, readable);
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
