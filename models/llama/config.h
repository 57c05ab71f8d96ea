// The shape of a LLaMA model, from Hugging Face's config.json (old and new spellings) or from GGUF
// metadata, and the frequencies of its rotary position embedding (RoPE).
//
// RoPE turns pair i of a head of width D at position t by the angle t * inv_freq[i], with
// theta_i = rope_theta^(-2i/D) scaled as
//   none    theta_i
//   linear  theta_i / factor                      (Position Interpolation, arXiv 2306.15595)
//   llama3  by the wavelength w = 2 pi / theta_i and the original context L:
//           w < L / high: theta_i;  w > L / low: theta_i / factor;  between: interpolated in L / w
// Other kinds are refused by name.
#pragma once
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace mullion {

class GgufFile;

struct RopeScaling {
  enum class Kind { none, linear, llama3 };
  Kind kind = Kind::none;
  double factor = 1;
  double low_freq_factor = 1, high_freq_factor = 4;  // llama3
  int64_t original_max_position_embeddings = 0;      // llama3; linear: 0 where not known
  bool operator==(const RopeScaling&) const = default;
};

struct LlamaConfig {
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t num_hidden_layers = 0;
  int64_t num_attention_heads = 0;
  int64_t num_key_value_heads = 0;  // in a file absent: as many as heads
  int64_t head_dim = 0;             // in a file absent: hidden_size / heads
  int64_t max_position_embeddings = 2048;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  RopeScaling rope_scaling;
  bool tie_word_embeddings = false;
  double initializer_range = 0.02;
  double attention_dropout = 0;
  std::optional<int64_t> bos_token_id, pad_token_id;
  std::vector<int64_t> eos_token_ids;  // an integer or a list in the file
  DType dtype = DType::f32;            // "torch_dtype": f32, bf16 or f16
  bool operator==(const LlamaConfig&) const = default;
};

// From the text of a config.json. `file` names it in errors; every value is validated.
LlamaConfig parse_llama_config(const nlohmann::json& json, const std::string& file);
// What is in the file, of no known meaning and not off goes to `notes`, a message each.
LlamaConfig read_llama_config(const std::filesystem::path& config_json,
                              std::vector<std::string>* notes = nullptr);
// The top-level keys of LLaMA configurations, and those of `json` that none has: for files written
// by hand, where a misspelt key would otherwise mean a default.
std::vector<std::string> llama_config_keys();
std::vector<std::string> unknown_llama_config_keys(const nlohmann::json& json);
// From the metadata and tensor table of a GGUF file.
LlamaConfig llama_config_of(const GgufFile& gguf);

// The legacy form, which every version of transformers reads ("rope_scaling" beside "rope_theta";
// linear scaling with exactly the fields "type" and "factor").
nlohmann::json to_json(const LlamaConfig& config);
nlohmann::json to_json(const RopeScaling& scaling);
// `json` may be null (none); both "type" and "rope_type" are read.
RopeScaling parse_rope_scaling(const nlohmann::json& json, const std::string& file);

// Throws Error(bad_file) "FILE: field: ..." for sizes of 0 or beyond any known model, heads that do
// not divide, token ids outside the vocabulary.
void validate(const LlamaConfig& config, const std::string& file);

// (head_dim / 2) frequencies, highest first.
std::vector<float> rope_inv_freq(const LlamaConfig& config);

// The number of positions the model can tell apart as it stands. Under linear scaling it is factor
// times the original context; where a file does not say the latter, max_position_embeddings is
// taken for it, as LongLoRA leaves it (formats.md 3.3).
int64_t usable_context(const LlamaConfig& config);
// Position Interpolation for `target` positions: where they exceed usable_context, linear scaling
// with factor = old * ceil(target / usable), and max_position_embeddings = original * factor.
// Refuses a model that is already scaled in another way.
void extend_context(LlamaConfig& config, int64_t target);

}  // namespace mullion
