// A LLaMA configuration from GGUF metadata (keys "llama.*") and the tensors beside it.
#include <algorithm>
#include <cmath>

#include "models/llama/config.h"
#include "tensor/check.h"
#include "tensor/io/gguf.h"

namespace mullion {

namespace {
constexpr uint64_t kMaxSize = uint64_t{1} << 24, kMaxContext = uint64_t{1} << 31;
constexpr double kMaxFactor = 1e6;

int64_t required(const GgufFile& gguf, const std::string& key, uint64_t max = kMaxSize) {
  return static_cast<int64_t>(gguf.get_uint(key, max));
}

int64_t optional_size(const GgufFile& gguf, const std::string& key, int64_t otherwise) {
  const auto value = gguf.find_uint(key, kMaxContext);
  return value ? static_cast<int64_t>(*value) : otherwise;
}

// The vocabulary is the number of rows of the embedding; what else speaks of it must agree.
int64_t vocabulary_of(const GgufFile& gguf) {
  const TensorEntry& embedding = gguf.at("token_embd.weight");
  CHECK_AS(Fault::bad_file, embedding.shape.size() == 2, gguf.name(),
           ": token_embd.weight has the shape ", shape_text(embedding.shape));
  const int64_t rows = embedding.shape[0];
  const int64_t said = optional_size(gguf, "llama.vocab_size", rows);
  CHECK_AS(Fault::bad_file, said == rows, gguf.name(), ": llama.vocab_size ", said,
           ", but token_embd.weight has ", rows, " rows");
  if (gguf.has("tokenizer.ggml.tokens")) {
    const size_t tokens = gguf.get_strings("tokenizer.ggml.tokens").size();
    CHECK_AS(Fault::bad_file, tokens == static_cast<size_t>(rows), gguf.name(), ": ", tokens,
             " tokens, but token_embd.weight has ", rows, " rows");
  }
  return rows;
}

// The factors of rope_freqs.weight divide theta_i. They are those of llama3 scaling with the usual
// low 1 and high 4; the factor is the one of the longest wavelength.
RopeScaling scaling_of_factors(const GgufFile& gguf, const LlamaConfig& config) {
  const TensorEntry& entry = gguf.at("rope_freqs.weight");
  CHECK_AS(Fault::bad_file, entry.count == static_cast<uint64_t>(config.head_dim / 2), gguf.name(),
           ": rope_freqs.weight has ", entry.count, " factors for heads of ", config.head_dim);
  std::vector<float> factors(entry.count);
  gguf.read_f32(entry.name, factors.data());
  if (std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1.0f; })) return {};
  CHECK_AS(Fault::bad_file, factors.back() >= 1 && factors.back() <= kMaxFactor, gguf.name(),
           ": rope_freqs.weight: its last factor ", factors.back(), " is not within 1 and ",
           kMaxFactor);
  constexpr const char* kOriginal = "llama.rope.scaling.original_context_length";
  const int64_t original = optional_size(gguf, kOriginal, 8192);
  CHECK_AS(Fault::bad_file, original > 0, gguf.name(), ": ", kOriginal, " is 0");
  LlamaConfig scaled = config;
  scaled.rope_scaling = {RopeScaling::Kind::llama3, factors.back(), 1, 4, original};
  const std::vector<float> expected = rope_inv_freq(scaled), plain = rope_inv_freq(config);
  for (size_t i = 0; i < factors.size(); ++i) {
    const float factor = plain[i] / expected[i];
    CHECK_AS(Fault::bad_file, std::abs(factors[i] - factor) <= 1e-3f * factor, gguf.name(),
             ": rope_freqs.weight: factor ", i, " is ", factors[i], ", llama3 scaling by ",
             factors.back(), " has ", factor);
  }
  return scaled.rope_scaling;
}

// llama.cpp takes a factor without a type for a linear one, and reads the name that its first
// converters gave it.
double linear_factor(const GgufFile& gguf) {
  const auto factor = gguf.find_number("llama.rope.scaling.factor");
  const auto old = gguf.find_number("llama.rope.scale_linear");
  CHECK_AS(Fault::bad_file, !factor || !old || *factor == *old, gguf.name(),
           ": llama.rope.scaling.factor ", *factor, " and llama.rope.scale_linear ", *old,
           " disagree");
  const double value = factor ? *factor : old.value_or(0);
  return value == 0 ? 1 : value;
}

RopeScaling scaling_of(const GgufFile& gguf, const LlamaConfig& config) {
  const auto said = gguf.find_string("llama.rope.scaling.type");
  const std::string type = said.value_or("linear");
  CHECK_AS(Fault::bad_file, type == "none" || type == "linear", gguf.name(), ": rope scaling \"",
           type, "\" is not supported; none, linear and llama3 factors are");
  CHECK_AS(Fault::bad_file, gguf.find_number("llama.rope.scaling.attn_factor").value_or(1) == 1,
           gguf.name(), ": llama.rope.scaling.attn_factor is not supported");
  const bool factors = gguf.find("rope_freqs.weight") != nullptr;
  const double factor = linear_factor(gguf);
  RopeScaling scaling;
  if (type == "linear" && (said || factor != 1)) {
    CHECK_AS(Fault::bad_file,
             !said || gguf.has("llama.rope.scaling.factor") || gguf.has("llama.rope.scale_linear"),
             gguf.name(), ": linear rope scaling without llama.rope.scaling.factor");
    CHECK_AS(Fault::bad_file, factor >= 1 && factor <= kMaxFactor, gguf.name(),
             ": llama.rope.scaling.factor ", factor, " is not within 1 and ", kMaxFactor);
    scaling = {RopeScaling::Kind::linear, factor, 1, 4,
               optional_size(gguf, "llama.rope.scaling.original_context_length", 0)};
  }
  CHECK_AS(Fault::bad_file, !(factors && scaling.factor != 1), gguf.name(),
           ": both linear rope scaling and rope_freqs.weight");
  return factors ? scaling_of_factors(gguf, config) : scaling;
}

// Every key of the model is used, says what is so anyway, or is off; another would change the
// result in llama.cpp, now or one day.
void check_keys(const GgufFile& gguf) {
  constexpr std::string_view kUsed[] = {
      "vocab_size", "context_length", "embedding_length", "block_count", "feed_forward_length",
      "attention.head_count", "attention.head_count_kv", "attention.key_length",
      "attention.value_length", "attention.layer_norm_rms_epsilon", "rope.dimension_count",
      "rope.freq_base", "rope.scale_linear", "rope.scaling.type", "rope.scaling.factor",
      "rope.scaling.attn_factor", "rope.scaling.original_context_length",
      // How the scaling came about, and how the first converters laid the tensors out.
      "rope.scaling.finetuned", "tensor_data_layout"};
  constexpr std::string_view kPrefix = "llama.";
  for (const std::string& key : gguf.keys()) {
    if (!key.starts_with(kPrefix)) continue;
    const std::string_view rest = std::string_view(key).substr(kPrefix.size());
    if (std::find(std::begin(kUsed), std::end(kUsed), rest) != std::end(kUsed)) continue;
    if (rest == "attention.causal" && gguf.get_bool(key)) continue;
    CHECK_AS(Fault::bad_file, gguf.is_off(key), gguf.name(), ": ", key.substr(0, 80),
             " is not supported");
  }
}

// A file of one model, not an adapter and not a part of one.
void check_kind(const GgufFile& gguf) {
  const std::string& architecture = gguf.get_string("general.architecture");
  const std::string type = gguf.find_string("general.type").value_or("model");
  CHECK_AS(Fault::bad_file, type == "model", gguf.name(),
           ": holds no model but, by general.type, \"", type, "\"");
  CHECK_AS(Fault::bad_file, architecture == "llama", gguf.name(), ": the architecture \"",
           architecture, "\" is not supported; llama is");
  const uint64_t parts = gguf.find_uint("split.count", UINT64_MAX).value_or(1);
  CHECK_AS(Fault::bad_file, parts <= 1, gguf.name(), ": is one of ", parts,
           " parts of a model (split.count), which are not read; llama-gguf-split --merge joins "
           "them");
}

std::optional<int64_t> token_of(const GgufFile& gguf, const std::string& name) {
  const auto id = gguf.find_uint("tokenizer.ggml." + name + "_token_id", INT32_MAX);
  return id ? std::optional(static_cast<int64_t>(*id)) : std::nullopt;
}
}  // namespace

LlamaConfig llama_config_of(const GgufFile& gguf) {
  check_kind(gguf);
  check_keys(gguf);
  LlamaConfig config;
  config.vocab_size = vocabulary_of(gguf);
  config.hidden_size = required(gguf, "llama.embedding_length");
  config.intermediate_size = required(gguf, "llama.feed_forward_length");
  config.num_hidden_layers = required(gguf, "llama.block_count");
  config.num_attention_heads = required(gguf, "llama.attention.head_count");
  CHECK_AS(Fault::bad_file, config.num_attention_heads > 0, gguf.name(),
           ": llama.attention.head_count is 0");
  config.num_key_value_heads =
      optional_size(gguf, "llama.attention.head_count_kv", config.num_attention_heads);
  config.head_dim = optional_size(gguf, "llama.attention.key_length",
                                  config.hidden_size / config.num_attention_heads);
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    const int64_t width = optional_size(gguf, key, config.head_dim);
    CHECK_AS(Fault::bad_file, width == config.head_dim, gguf.name(), ": ", key, " ", width,
             " other than the head width ", config.head_dim, " is not supported");
  }
  config.max_position_embeddings = required(gguf, "llama.context_length", kMaxContext);
  // Stored as f32: 1e-5 comes out as 9.9999997e-06, which is what such a model was run with.
  config.rms_norm_eps = gguf.get_number("llama.attention.layer_norm_rms_epsilon");
  config.rope_theta = gguf.find_number("llama.rope.freq_base").value_or(10000);
  config.tie_word_embeddings = gguf.find("output.weight") == nullptr;
  config.bos_token_id = token_of(gguf, "bos");
  config.pad_token_id = token_of(gguf, "padding");
  if (const auto eos = token_of(gguf, "eos")) config.eos_token_ids.push_back(*eos);
  validate(config, gguf.name());
  config.rope_scaling = scaling_of(gguf, config);
  return config;
}

}  // namespace mullion
