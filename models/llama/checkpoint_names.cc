// The two vocabularies of names, the order of rotary rows, and the table of expected tensors.
#include "models/llama/checkpoint_names.h"

#include <algorithm>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

namespace {
struct NamePair {
  std::string_view hf, gguf;
};
constexpr NamePair kOutside[] = {{"model.embed_tokens.weight", "token_embd.weight"},
                                 {"model.norm.weight", "output_norm.weight"},
                                 {"lm_head.weight", "output.weight"}};
constexpr std::string_view kHfLayer = "model.layers.", kGgufLayer = "blk.";
constexpr NamePair kInLayer[] = {{"input_layernorm.weight", "attn_norm.weight"},
                                 {"self_attn.q_proj.weight", "attn_q.weight"},
                                 {"self_attn.k_proj.weight", "attn_k.weight"},
                                 {"self_attn.v_proj.weight", "attn_v.weight"},
                                 {"self_attn.o_proj.weight", "attn_output.weight"},
                                 {"post_attention_layernorm.weight", "ffn_norm.weight"},
                                 {"mlp.gate_proj.weight", "ffn_gate.weight"},
                                 {"mlp.up_proj.weight", "ffn_up.weight"},
                                 {"mlp.down_proj.weight", "ffn_down.weight"}};

using Member = std::string_view NamePair::*;

std::optional<std::string> translate(std::string_view name, Member from, Member to) {
  for (const NamePair& pair : kOutside) {
    if (pair.*from == name) return std::string(pair.*to);
  }
  const bool from_hf = from == &NamePair::hf;
  const std::string_view prefix = from_hf ? kHfLayer : kGgufLayer;
  if (!name.starts_with(prefix)) return std::nullopt;
  const std::string_view rest = name.substr(prefix.size());
  const size_t digits = std::min(rest.find_first_not_of("0123456789"), rest.size());
  // Numbers are written without leading zeros: one name a tensor.
  const bool number = digits > 0 && digits <= 5 && (rest[0] != '0' || digits == 1);
  if (!number || digits == rest.size() || rest[digits] != '.') return std::nullopt;
  for (const NamePair& pair : kInLayer) {
    if (pair.*from == rest.substr(digits + 1)) {
      return concat(from_hf ? kGgufLayer : kHfLayer, rest.substr(0, digits), ".", pair.*to);
    }
  }
  return std::nullopt;
}

// Moves row source(i) to row i within one head.
template <typename Source>
void reorder(std::span<std::byte> rows, int64_t head_dim, const Source& source) {
  const size_t row = rows.size() / static_cast<size_t>(head_dim);
  const std::vector<std::byte> old(rows.begin(), rows.end());
  for (int64_t i = 0; i < head_dim; ++i) {
    std::memcpy(rows.data() + static_cast<size_t>(i) * row,
                old.data() + static_cast<size_t>(source(i)) * row, row);
  }
}
}  // namespace

std::optional<std::string> gguf_name_of(std::string_view hf_name) {
  return translate(hf_name, &NamePair::hf, &NamePair::gguf);
}

std::optional<std::string> hf_name_of(std::string_view gguf_name) {
  return translate(gguf_name, &NamePair::gguf, &NamePair::hf);
}

bool has_rotary_rows(std::string_view hf_name) {
  return hf_name.ends_with(".self_attn.q_proj.weight") ||
         hf_name.ends_with(".self_attn.k_proj.weight");
}

int64_t interleaved_row(int64_t row, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  return row < half ? 2 * row : 2 * (row - half) + 1;
}

void interleaved_to_half_split(std::span<std::byte> rows, int64_t head_dim) {
  reorder(rows, head_dim, [head_dim](int64_t i) { return interleaved_row(i, head_dim); });
}

void half_split_to_interleaved(std::span<std::byte> rows, int64_t head_dim) {
  const int64_t half = head_dim / 2;
  reorder(rows, head_dim, [half](int64_t i) { return i % 2 * half + i / 2; });
}

std::vector<std::string> llama_projections() {
  std::vector<std::string> names;
  for (const auto& [hf, gguf] : kInLayer) {
    const std::string_view module = hf.substr(0, hf.rfind('.'));
    if (module.ends_with("_proj")) names.emplace_back(module.substr(module.find('.') + 1));
  }
  return names;
}

std::vector<std::pair<std::string, std::vector<int64_t>>> llama_tensors(const LlamaConfig& c) {
  const int64_t q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  const int64_t d = c.hidden_size, f = c.intermediate_size;
  const std::vector<int64_t> shapes[] = {{d}, {q, d}, {kv, d}, {kv, d}, {d, q},
                                         {d}, {f, d}, {f, d},  {d, f}};
  std::vector<std::pair<std::string, std::vector<int64_t>>> tensors;
  tensors.emplace_back("model.embed_tokens.weight", std::vector<int64_t>{c.vocab_size, d});
  for (int64_t layer = 0; layer < c.num_hidden_layers; ++layer) {
    for (size_t i = 0; i < std::size(kInLayer); ++i) {
      tensors.emplace_back(concat(kHfLayer, layer, ".", kInLayer[i].hf), shapes[i]);
    }
  }
  tensors.emplace_back("model.norm.weight", std::vector<int64_t>{d});
  if (!c.tie_word_embeddings) {
    tensors.emplace_back("lm_head.weight", std::vector<int64_t>{c.vocab_size, d});
  }
  return tensors;
}

void check_llama_tensors(const LlamaConfig& config, const TensorSource& weights) {
  std::vector<std::string> expected;
  for (auto& [name, shape] : llama_tensors(config)) {
    const TensorEntry& entry = weights.at(name);
    CHECK_AS(Fault::bad_file, entry.shape == shape, weights.name(), ": ", name, ": ",
             shape_text(entry.shape), " in the file, ", shape_text(shape), " in the model");
    CHECK_AS(Fault::bad_file, converts_to_f32(entry.type), weights.name(), ": ", name, ": ",
             name_of(entry.type), " values where floats are expected");
    expected.push_back(std::move(name));
  }
  std::sort(expected.begin(), expected.end());
  for (const TensorEntry& entry : weights.entries()) {
    const bool known = std::binary_search(expected.begin(), expected.end(), entry.name);
    const bool left_over =
        entry.name.ends_with(".rotary_emb.inv_freq") || entry.name == "lm_head.weight";
    CHECK_AS(Fault::bad_file, known || left_over, weights.name(), ": ", entry.name,
             " is no tensor of this model (", config.num_hidden_layers, " layers)");
  }
}

}  // namespace mullion
