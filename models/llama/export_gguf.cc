// Metadata, then a type for each tensor, then tensor by tensor with rows of q and k turned.
#include "models/llama/export_gguf.h"

#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "data/tokenizer_writer.h"
#include "models/llama/checkpoint_names.h"
#include "tensor/check.h"
#include "tensor/io/quantize.h"

namespace mullion {
namespace {

constexpr const char* kRopeFactors = "rope_freqs.weight";

// The values of general.file_type, what llama.cpp calls them (llama_model_ftype_name, b4500), and
// the type whose models are written as such.
struct FileType {
  uint32_t number;
  const char* name;
  std::optional<StoredType> written = std::nullopt;
};
constexpr FileType kFileTypes[] = {{0, "all F32", StoredType::f32},
                                   {1, "F16", StoredType::f16},
                                   {2, "Q4_0", StoredType::q4_0},
                                   {3, "Q4_1", StoredType::q4_1},
                                   {7, "Q8_0", StoredType::q8_0},
                                   {8, "Q5_0", StoredType::q5_0},
                                   {9, "Q5_1", StoredType::q5_1},
                                   {10, "Q2_K - Medium"},
                                   {11, "Q3_K - Small"},
                                   {12, "Q3_K - Medium"},
                                   {13, "Q3_K - Large"},
                                   {14, "Q4_K - Small", StoredType::q4_k},
                                   {15, "Q4_K - Medium"},
                                   {16, "Q5_K - Small", StoredType::q5_k},
                                   {17, "Q5_K - Medium"},
                                   {18, "Q6_K", StoredType::q6_k},
                                   {21, "Q2_K - Small"},
                                   {25, "IQ4_NL - 4.5 bpw"},
                                   {30, "IQ4_XS - 4.25 bpw"},
                                   {32, "BF16", StoredType::bf16}};

uint32_t file_type_of(StoredType type) {
  for (const FileType& t : kFileTypes)
    if (t.written == type) return t.number;
  fail(Fault::usage, "GGUF: models of ", name_of(type), " are not written");
}

void add_rope(GgufPairs& pairs, const LlamaConfig& config) {
  const auto u32 = [&](const char* key, int64_t v) { pairs.u32(key, static_cast<uint64_t>(v)); };
  const RopeScaling& scaling = config.rope_scaling;
  u32("llama.rope.dimension_count", config.head_dim);
  pairs.f32("llama.rope.freq_base", config.rope_theta);
  switch (scaling.kind) {
    case RopeScaling::Kind::none:
      return;
    case RopeScaling::Kind::linear:
      pairs.text("llama.rope.scaling.type", "linear");
      pairs.f32("llama.rope.scaling.factor", scaling.factor);
      if (scaling.original_max_position_embeddings > 0)
        u32("llama.rope.scaling.original_context_length", scaling.original_max_position_embeddings);
      return;
    case RopeScaling::Kind::llama3:  // as factors of the frequencies, a tensor
      u32("llama.rope.scaling.original_context_length", scaling.original_max_position_embeddings);
      return;
  }
  fail(Fault::usage, "GGUF has no words for this rope scaling: ", to_json(scaling).dump());
}

void add_config(GgufPairs& pairs, const LlamaConfig& config, const GgufExport& options) {
  const auto u32 = [&](const char* key, int64_t v) { pairs.u32(key, static_cast<uint64_t>(v)); };
  pairs.text("general.architecture", "llama").text("general.type", "model");
  if (!options.name.empty()) pairs.text("general.name", options.name);
  pairs.u32("general.file_type", file_type_of(options.type));
  pairs.u32("general.quantization_version", 2);
  u32("llama.vocab_size", config.vocab_size);
  u32("llama.context_length", usable_context(config));
  u32("llama.embedding_length", config.hidden_size);
  u32("llama.block_count", config.num_hidden_layers);
  u32("llama.feed_forward_length", config.intermediate_size);
  u32("llama.attention.head_count", config.num_attention_heads);
  u32("llama.attention.head_count_kv", config.num_key_value_heads);
  if (config.head_dim * config.num_attention_heads != config.hidden_size) {
    u32("llama.attention.key_length", config.head_dim);
    u32("llama.attention.value_length", config.head_dim);
  }
  pairs.f32("llama.attention.layer_norm_rms_epsilon", config.rms_norm_eps);
  add_rope(pairs, config);
}

// By what the frequencies are divided; none where the scaling is the same for all of them.
std::vector<float> rope_factors(const LlamaConfig& config) {
  if (config.rope_scaling.kind != RopeScaling::Kind::llama3) return {};
  LlamaConfig plain = config;
  plain.rope_scaling = {};
  std::vector<float> factors = rope_inv_freq(plain);
  const std::vector<float> scaled = rope_inv_freq(config);
  for (size_t i = 0; i < factors.size(); ++i) factors[i] /= scaled[i];
  return factors;
}

// What rows that are no whole number of blocks of a type get, as llama.cpp has it.
StoredType next_best(StoredType type) {
  switch (type) {
    case StoredType::q4_k:
      return StoredType::q5_0;
    case StoredType::q5_k:
      return StoredType::q5_1;
    case StoredType::q6_k:
      return StoredType::q8_0;
    default:
      return StoredType::f16;
  }
}

bool outside_layers(const std::string& name) {
  return name == "model.embed_tokens.weight" || name == "lm_head.weight";
}

StoredType type_of(const std::string& name, const std::vector<int64_t>& shape, StoredType wanted) {
  if (shape.size() < 2) return StoredType::f32;
  if (outside_layers(name) && layout_of(wanted).block > 1) wanted = StoredType::q8_0;
  while (static_cast<uint64_t>(shape.back()) % layout_of(wanted).block != 0)
    wanted = next_best(wanted);
  return wanted;
}

void note_other_types(const LlamaConfig& config, StoredType type, std::vector<std::string>& notes) {
  std::map<std::string, std::vector<int64_t>> shapes;  // of projections of another type, by names
  for (const auto& [name, shape] : llama_tensors(config)) {
    const StoredType own = type_of(name, shape, type);
    if (shape.size() < 2 || own == type || (outside_layers(name) && own == StoredType::q8_0))
      continue;
    const std::string module = name.substr(0, name.rfind('.'));
    if (static_cast<uint64_t>(shape.back()) % layout_of(type).block != 0)
      shapes.emplace(module.substr(module.rfind('.') + 1), shape);
  }
  for (const auto& [name, shape] : shapes)
    notes.push_back(concat(name, " is in ", name_of(type_of(name, shape, type)), ": its rows of ",
                           shape.back(), " are no whole number of ", layout_of(type).name,
                           " blocks of ", layout_of(type).block));
}

}  // namespace

const char* gguf_file_type_name(uint64_t number) {
  for (const FileType& t : kFileTypes)
    if (t.number == number) return t.name;
  return nullptr;
}

void permute_rotary_rows(std::span<std::byte> bytes, int64_t rows, int64_t head_dim) {
  const size_t head = bytes.size() / static_cast<size_t>(rows) * static_cast<size_t>(head_dim);
  for (size_t at = 0; at < bytes.size(); at += head)
    half_split_to_interleaved(bytes.subspan(at, head), head_dim);
}

std::vector<GgufSpec> gguf_tensors(const LlamaConfig& config, StoredType type) {
  std::vector<GgufSpec> specs;
  for (const auto& [name, shape] : llama_tensors(config))
    specs.push_back({*gguf_name_of(name), type_of(name, shape, type), shape});
  if (const auto factors = static_cast<int64_t>(rope_factors(config).size()); factors > 0)
    specs.push_back({kRopeFactors, StoredType::f32, {factors}});
  return specs;
}

std::vector<std::string> write_gguf(const std::filesystem::path& path, const LlamaConfig& config,
                                    const TensorSource& weights, const Tokenizer* tokenizer,
                                    const GgufExport& options) {
  check_llama_tensors(config, weights);
  std::vector<std::string> notes;
  GgufPairs pairs;
  add_config(pairs, config, options);
  if (tokenizer) {
    notes = add_tokenizer(pairs, *tokenizer, config.vocab_size);
  } else {
    notes.emplace_back("no tokenizer: llama.cpp does not open such a file");
  }
  note_other_types(config, options.type, notes);
  const auto tensors = llama_tensors(config);
  const std::vector<GgufSpec> specs = gguf_tensors(config, options.type);
  const std::vector<float> factors = rope_factors(config);
  GgufWriter writer(path, pairs, specs);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const auto& [name, shape] = tensors[i];
    std::vector<std::byte> bytes = stored_as(weights, name, specs[i].type);
    if (has_rotary_rows(name)) permute_rotary_rows(bytes, shape.at(0), config.head_dim);
    writer.write(specs[i].name, bytes);
  }
  if (!factors.empty()) writer.write(kRopeFactors, std::as_bytes(std::span(factors)));
  writer.commit();
  return notes;
}

}  // namespace mullion
