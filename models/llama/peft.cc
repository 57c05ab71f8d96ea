// Keys and JSON files of PEFT adapters (formats.md 3.2).
#include "models/llama/peft.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
using Json = nlohmann::json;
constexpr std::string_view kPrefix = "base_model.model.";
constexpr std::string_view kProjections[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                             "gate_proj", "up_proj", "down_proj"};
constexpr uint64_t kMaxRank = 1 << 16, kMaxContext = uint64_t{1} << 31,
                   kMaxSize = uint64_t{1} << 31;

bool drop_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
}

bool ends_in_name(std::string_view module, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(), [&](const std::string& name) {
    return module == name || (module.ends_with(name) && module.size() > name.size() &&
                              module[module.size() - name.size() - 1] == '.');
  });
}

// Present, and neither null, false, empty nor `neutral`.
void refuse_feature(const Json& json, const std::string& file, const char* key,
                    const Json& neutral = nullptr) {
  const Json* value = find_field(json, file, key);
  const bool off = !value || *value == neutral || *value == false ||
                   ((value->is_array() || value->is_object()) && value->empty());
  CHECK_AS(Fault::bad_file, off, file, ": ", key, " ", value->dump().substr(0, 60),
           " is not supported");
}

std::vector<std::string> module_names(const Json& json, const std::string& file, const char* key) {
  const Json* value = find_field(json, file, key);
  if (!value) return {};
  if (value->is_string() && *value == "all-linear") {
    return {std::begin(kProjections), std::end(kProjections)};
  }
  CHECK_AS(Fault::bad_file, value->is_array(), file, ": ", key,
           ": a list of module names is supported, patterns are not");
  return get_strings(json, file, key);
}
}  // namespace

std::string adapter_key_text(const AdapterKey& key) {
  constexpr std::string_view kParts[] = {".lora_A", ".lora_B", ""};
  return concat(kPrefix, key.module, kParts[static_cast<size_t>(key.kind)], ".weight");
}

AdapterKey parse_adapter_key(std::string_view key, const std::string& file) {
  const auto refuse = [&](std::string_view why) {
    fail(Fault::bad_file, file, ": the key \"", key.substr(0, 200), "\" ", why);
  };
  std::string_view rest = key;
  if (!rest.starts_with(kPrefix)) refuse("does not start with base_model.model.");
  rest.remove_prefix(kPrefix.size());
  if (rest.find("lora_magnitude_vector") != std::string_view::npos) refuse("is of DoRA");
  if (rest.find("lora_embedding_") != std::string_view::npos) refuse("is LoRA of an embedding");
  if (!drop_suffix(rest, ".weight")) refuse("is no weight");
  drop_suffix(rest, ".default");
  AdapterKey parsed;
  if (drop_suffix(rest, ".lora_A")) {
    parsed.kind = AdapterKey::Kind::lora_a;
  } else if (drop_suffix(rest, ".lora_B")) {
    parsed.kind = AdapterKey::Kind::lora_b;
  } else {
    drop_suffix(rest, ".modules_to_save");
  }
  const bool inner = rest.find("lora_") != std::string_view::npos ||
                     rest.find("modules_to_save") != std::string_view::npos ||
                     rest.ends_with(".original_module") || rest.ends_with(".base_layer");
  if (rest.empty() || inner) refuse("names no module of an adapter");
  parsed.module = rest;
  return parsed;
}

double AdapterConfig::scale() const {
  const double rank = static_cast<double>(r);
  return lora_alpha / (use_rslora ? std::sqrt(rank) : rank);
}

bool AdapterConfig::targets(std::string_view module) const {
  return ends_in_name(module, target_modules);
}

bool AdapterConfig::saves(std::string_view module) const {
  return ends_in_name(module, modules_to_save);
}

AdapterConfig parse_adapter_config(const Json& json, const std::string& file) {
  const std::string type = get_string(json, file, "peft_type");
  CHECK_AS(Fault::bad_file, type == "LORA", file, ": peft_type \"", type,
           "\" is not supported; LORA is");
  for (const char* key :
       {"use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern", "layers_to_transform",
        "layers_pattern", "exclude_modules", "lora_bias", "trainable_token_indices",
        "layer_replication", "target_parameters", "use_qalora"}) {
    refuse_feature(json, file, key);
  }
  refuse_feature(json, file, "bias", "none");
  AdapterConfig config;
  config.r = static_cast<int64_t>(get_uint_or(json, file, "r", kMaxRank, 8));
  CHECK_AS(Fault::bad_file, config.r > 0, file, ": \"r\" is 0");
  config.lora_alpha = get_number_or(json, file, "lora_alpha", 8);
  CHECK_AS(Fault::bad_file, config.lora_alpha > 0 && config.lora_alpha <= 1e6, file,
           ": lora_alpha ", config.lora_alpha, " is not within 0 and 1e6");
  config.lora_dropout = get_number_or(json, file, "lora_dropout", 0);
  CHECK_AS(Fault::bad_file, config.lora_dropout >= 0 && config.lora_dropout < 1, file,
           ": lora_dropout ", config.lora_dropout, " is not within 0 and 1");
  config.use_rslora = get_bool_or(json, file, "use_rslora", false);
  config.target_modules = module_names(json, file, "target_modules");
  config.modules_to_save = module_names(json, file, "modules_to_save");
  config.base_model_name_or_path = get_string_or(json, file, "base_model_name_or_path", "");
  return config;
}

Json to_json(const AdapterConfig& config) {
  const bool whole = config.lora_alpha == std::floor(config.lora_alpha);
  Json json = {{"alpha_pattern", Json::object()},
               {"auto_mapping", nullptr},
               {"base_model_name_or_path", config.base_model_name_or_path},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"init_lora_weights", true},
               {"layers_pattern", nullptr},
               {"layers_to_transform", nullptr},
               {"lora_alpha", config.lora_alpha},
               {"lora_dropout", config.lora_dropout},
               {"modules_to_save", nullptr},
               {"peft_type", "LORA"},
               {"r", config.r},
               {"rank_pattern", Json::object()},
               {"revision", nullptr},
               {"target_modules", config.target_modules},
               {"task_type", "CAUSAL_LM"},
               {"use_dora", false},
               {"use_rslora", config.use_rslora}};
  if (whole) json["lora_alpha"] = static_cast<int64_t>(config.lora_alpha);
  if (!config.modules_to_save.empty()) json["modules_to_save"] = config.modules_to_save;
  return json;
}

AdapterConfig read_adapter_config(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  return parse_adapter_config(read_json_file(path), path.string());
}

void write_adapter_config(const std::filesystem::path& folder, const AdapterConfig& config) {
  write_json_file(folder / "adapter_config.json", to_json(config));
}

void write_longctx(const std::filesystem::path& folder, const LongContextNote& note) {
  Json json = {{"rope_scaling", to_json(note.rope_scaling)},
               {"max_position_embeddings", note.max_position_embeddings},
               {"attention",
                {{"preset", note.attention_preset}, {"group", note.group}, {"sinks", note.sinks}}},
               {"tokenizer_sha256", note.tokenizer_sha256},
               {"base_sha256", note.base_sha256},
               {"trained", note.trained}};
  if (note.rope_scaling.kind == RopeScaling::Kind::linear) {
    json["original_max_position_embeddings"] = note.rope_scaling.original_max_position_embeddings;
  }
  write_json_file(folder / "longctx.json", json);
}

std::optional<LongContextNote> read_longctx(const std::filesystem::path& folder) {
  const auto path = folder / "longctx.json";
  if (std::error_code ignored; !std::filesystem::exists(path, ignored)) return std::nullopt;
  const std::string file = path.string();
  const Json json = read_json_file(path);
  LongContextNote note;
  const Json* scaling = find_field(json, file, "rope_scaling");
  if (scaling) note.rope_scaling = parse_rope_scaling(*scaling, file + ": rope_scaling");
  if (note.rope_scaling.kind == RopeScaling::Kind::linear) {
    note.rope_scaling.original_max_position_embeddings = static_cast<int64_t>(
        get_uint_or(json, file, "original_max_position_embeddings", kMaxContext, 0));
  }
  note.max_position_embeddings =
      static_cast<int64_t>(get_uint(json, file, "max_position_embeddings", kMaxContext));
  const Json* attention = find_field(json, file, "attention");
  CHECK_AS(Fault::bad_file, attention, file, ": \"attention\" is missing");
  note.attention_preset = get_string(*attention, file, "preset");
  note.group = static_cast<int64_t>(get_uint(*attention, file, "group", kMaxSize));
  note.sinks = static_cast<int64_t>(get_uint(*attention, file, "sinks", kMaxSize));
  note.tokenizer_sha256 = get_string_or(json, file, "tokenizer_sha256", "");
  note.base_sha256 = get_string_or(json, file, "base_sha256", "");
  note.trained = get_strings(json, file, "trained");
  return note;
}

}  // namespace mullion
