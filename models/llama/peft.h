// An adapter as PEFT writes and reads it: adapter_config.json, the key names of
// adapter_model.safetensors, and our side file longctx.json for what PEFT has no field for.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "models/llama/config.h"

namespace mullion {

// One tensor of an adapter file: a factor of a LoRA pair, or a whole trained parameter.
//   A (r, in), B (out, r):  W x + scale B A x
struct AdapterKey {
  enum class Kind { lora_a, lora_b, full };
  Kind kind = Kind::full;
  std::string module;  // "model.layers.0.self_attn.q_proj", "model.embed_tokens"
  bool operator==(const AdapterKey&) const = default;
  std::string weight() const { return module + ".weight"; }  // the parameter it belongs to
};

// "base_model.model.MODULE.lora_A.weight", "...lora_B.weight", "base_model.model.MODULE.weight".
std::string adapter_key_text(const AdapterKey& key);
// Also accepts what PEFT and its users leave in files: "lora_A.default.weight",
// "MODULE.modules_to_save.default.weight", "MODULE.modules_to_save.weight". Anything else is an
// error naming `file` and the key.
AdapterKey parse_adapter_key(std::string_view key, const std::string& file);

struct AdapterConfig {
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  // Modules whose rank or alpha is another one, as EVA and users set them.
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  std::vector<std::string> target_modules, modules_to_save;  // "q_proj", "embed_tokens"
  std::vector<std::string> exclude_modules;
  std::vector<int64_t> layers_to_transform;  // empty: all
  bool ensure_weight_tying = false;          // a tied head follows a trained embedding
  std::string base_model_name_or_path, revision;
  bool operator==(const AdapterConfig&) const = default;

  // The same for every module without patterns. Two patterns that give a module different values
  // are Error(bad_file): PEFT would take the one that its file has first.
  int64_t rank(std::string_view module = "") const;
  double alpha(std::string_view module = "") const;
  double scale(std::string_view module = "") const;  // alpha / rank, or / sqrt(rank) with rslora
  // A name matches a module whose path is it or ends in "." + it.
  bool targets(std::string_view module) const;
  bool saves(std::string_view module) const;
  // All pairs have one rank and one scale, alpha / r: what training goes on with.
  bool is_plain() const;
};

// Every key is used, known to have no effect on a model that is loaded, or off (null, false, empty,
// "none"); anything else, known or not, is refused with its value. The keys are those of PEFT 0.15
// and 0.21.
AdapterConfig parse_adapter_config(const nlohmann::json& json, const std::string& file);
nlohmann::json to_json(const AdapterConfig& config);
AdapterConfig read_adapter_config(const std::filesystem::path& folder);
void write_adapter_config(const std::filesystem::path& folder, const AdapterConfig& config);

// What the adapter was trained under. The strings of `attention_preset` and `trained` are the
// caller's.
struct LongContextNote {
  RopeScaling rope_scaling;
  int64_t max_position_embeddings = 0;
  std::string attention_preset;
  int64_t group = 0, sinks = 0;
  std::string tokenizer_sha256, base_sha256;
  std::string base_path;             // where the base was, "" where not known
  std::string chat_template;         // of a tuning on instructions, "chatml"; "" where none
  std::vector<std::string> trained;  // of "lora", "embed", "norm"
  bool operator==(const LongContextNote&) const = default;
};

void write_longctx(const std::filesystem::path& folder, const LongContextNote& note);
// None where the folder has no longctx.json, as with adapters made elsewhere.
std::optional<LongContextNote> read_longctx(const std::filesystem::path& folder);

}  // namespace mullion
