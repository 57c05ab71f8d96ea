// LLaMA models as GGUF files, for tests.
#pragma once
#include <string>
#include <vector>

#include "models/llama/checkpoint_names.h"
#include "tests/io_builders.h"

namespace mullion::test {

// A model as llama.cpp's converter lays it out, in f32. `values(i, count)` are those of the i-th
// tensor of llama_tensors(c).
template <typename Values>
GgufText gguf_of(const LlamaConfig& c, const Values& values_of) {
  GgufText text;
  const auto u32 = [&](const char* key, int64_t v) { text.u32(key, static_cast<uint32_t>(v)); };
  text.text("general.architecture", "llama");
  u32("llama.context_length", c.max_position_embeddings);
  u32("llama.embedding_length", c.hidden_size);
  u32("llama.block_count", c.num_hidden_layers);
  u32("llama.feed_forward_length", c.intermediate_size);
  u32("llama.attention.head_count", c.num_attention_heads);
  u32("llama.attention.head_count_kv", c.num_key_value_heads);
  text.f32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  size_t i = 0;
  for (const auto& [name, shape] : llama_tensors(c)) {
    uint64_t count = 1;
    for (const int64_t size : shape) count *= static_cast<uint64_t>(size);
    std::vector<float> values = values_of(i++, count);
    if (has_rotary_rows(name)) {
      const size_t head = static_cast<size_t>(c.head_dim * c.hidden_size);
      for (size_t at = 0; at < values.size(); at += head) {
        half_split_to_interleaved(std::as_writable_bytes(std::span(values).subspan(at, head)),
                                  c.head_dim);
      }
    }
    std::vector<uint64_t> dims(shape.rbegin(), shape.rend());
    const auto* bytes = reinterpret_cast<const char*>(values.data());
    text.tensor(*gguf_name_of(name), dims, 0, std::string(bytes, 4 * values.size()));
  }
  return text;
}

}  // namespace mullion::test
