// adapter_config.json of PEFT (formats.md 3.2).
#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "models/llama/checkpoint_names.h"
#include "models/llama/peft.h"
#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
using Json = nlohmann::json;
constexpr uint64_t kMaxRank = 1 << 16, kMaxLayer = 4096;
constexpr double kMaxAlpha = 1e6;

// Read below.
constexpr std::string_view kUsed[] = {
    "peft_type",       "task_type",           "r",
    "lora_alpha",      "lora_dropout",        "use_rslora",
    "rank_pattern",    "alpha_pattern",       "target_modules",
    "modules_to_save", "exclude_modules",     "layers_to_transform",
    "layers_pattern",  "init_lora_weights",   "base_model_name_or_path",
    "revision",        "ensure_weight_tying", "bias"};
// Of any value: where a run came from, and how its first pairs were computed. What the computing
// left behind is said by init_lora_weights.
constexpr std::string_view kWithoutEffect[] = {
    "auto_mapping", "peft_version", "inference_mode", "runtime_config",    "megatron_core",
    "eva_config",   "corda_config", "loftq_config",   "qalora_group_size", "lora_ga_config"};

template <size_t N>
bool is_one_of(std::string_view name, const std::string_view (&names)[N]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string shown(const Json& value) { return value.dump().substr(0, 60); }

bool ends_in_name(std::string_view module, std::string_view name) {
  return module == name || (module.ends_with(name) && module.size() > name.size() &&
                            module[module.size() - name.size() - 1] == '.');
}

bool ends_in_name(std::string_view module, const std::vector<std::string>& names) {
  return std::any_of(names.begin(), names.end(),
                     [&](const std::string& name) { return ends_in_name(module, name); });
}

std::vector<std::string> module_names(const Json& json, const std::string& file, const char* key) {
  const Json* value = find_field(json, file, key);
  if (!value) return {};
  if (value->is_string() && *value == "all-linear" && key == std::string_view("target_modules"))
    return llama_projections();
  CHECK_AS(Fault::bad_file, value->is_array(), file, ": ", key, " ", shown(*value),
           ": a list of module names is supported, a pattern is not");
  return get_strings(json, file, key);
}

// A key of rank_pattern is a regular expression for the end of a path; those are read that are a
// name, with or without '^' before it.
void check_pattern(const std::string& pattern, const std::string& file, const char* key) {
  const size_t first = pattern.starts_with('^') ? 1 : 0;
  const bool name =
      pattern.size() > first &&
      std::all_of(pattern.begin() + static_cast<std::ptrdiff_t>(first), pattern.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '_' || c == '.';
      });
  CHECK_AS(Fault::bad_file, name, file, ": ", key, " \"", pattern.substr(0, 60),
           "\": names of modules are supported, other patterns are not");
}

bool matches(const std::string& pattern, std::string_view module) {
  return pattern.starts_with('^') ? module == std::string_view(pattern).substr(1)
                                  : ends_in_name(module, pattern);
}

template <typename T>
T value_for(const std::map<std::string, T>& patterns, std::string_view module, T otherwise,
            const char* key) {
  std::optional<T> found;
  for (const auto& [pattern, value] : patterns) {
    if (!matches(pattern, module)) continue;
    CHECK_AS(Fault::bad_file, !found || *found == value, "adapter_config.json: ", key, " has both ",
             *found, " and ", value, " for ", module);
    found = value;
  }
  return found.value_or(otherwise);
}

double alpha_of(const Json& value, const std::string& file, const std::string& what) {
  const double alpha = value.is_number() ? value.get<double>() : 0;
  CHECK_AS(Fault::bad_file, alpha > 0 && alpha <= kMaxAlpha, file, ": ", what, " ", shown(value),
           " is not within 0 and ", kMaxAlpha);
  return alpha;
}

void read_patterns(const Json& json, const std::string& file, AdapterConfig& config) {
  for (const char* key : {"rank_pattern", "alpha_pattern"}) {
    const Json* patterns = find_field(json, file, key);
    if (!patterns) continue;
    CHECK_AS(Fault::bad_file, patterns->is_object(), file, ": ", key, " is no object");
    for (const auto& [pattern, value] : patterns->items()) {
      check_pattern(pattern, file, key);
      const std::string what = concat(key, " ", pattern);
      if (key == std::string_view("alpha_pattern")) {
        config.alpha_pattern[pattern] = alpha_of(value, file, what);
        continue;
      }
      const auto rank = static_cast<int64_t>(as_uint(value, file, what, kMaxRank));
      CHECK_AS(Fault::bad_file, rank > 0, file, ": ", what, " is 0");
      config.rank_pattern[pattern] = rank;
    }
  }
}

void read_layers(const Json& json, const std::string& file, AdapterConfig& config) {
  if (const Json* layers = find_field(json, file, "layers_to_transform")) {
    for (const Json& layer : layers->is_array() ? *layers : Json::array({*layers}))
      config.layers_to_transform.push_back(
          static_cast<int64_t>(as_uint(layer, file, "layers_to_transform", kMaxLayer)));
  }
  const Json* pattern = find_field(json, file, "layers_pattern");
  CHECK_AS(
      Fault::bad_file,
      !pattern || is_off(*pattern) || *pattern == "layers" || *pattern == Json::array({"layers"}),
      file, ": layers_pattern ", shown(*pattern), " is not supported; \"layers\" is");
}

// PiSSA, OLoRA, CorDA, LoftQ and LoRA-GA take what they put into the pairs out of the base: the
// pairs belong to a base that is in no file.
void check_initialization(const Json& json, const std::string& file) {
  constexpr std::string_view kBaseAsItWas[] = {"gaussian", "eva", "orthogonal", "mica"};
  const Json* init = find_field(json, file, "init_lora_weights");
  if (!init || init->is_boolean()) return;
  const std::string kind = init->is_string() ? init->get<std::string>() : "";
  if (is_one_of(kind, kBaseAsItWas)) return;
  throw Error(concat(file, ": init_lora_weights ", shown(*init), ": ",
                     "the pairs go with weights that this initialization has changed, not with "
                     "the base model's"),
              Fault::bad_file,
              "save it in PEFT with path_initial_model_for_weight_conversion=FOLDER of the adapter "
              "as it was before training, which converts it to a plain LoRA");
}

void check_keys(const Json& json, const std::string& file) {
  for (const auto& [key, value] : json.items()) {
    if (is_off(value) || is_one_of(key, kUsed) || is_one_of(key, kWithoutEffect)) continue;
    fail(Fault::bad_file, file, ": ", key.substr(0, 60), " ", shown(value),
         " is not supported: it may make another model of the adapter");
  }
  const std::string bias = get_string_or(json, file, "bias", "none");
  CHECK_AS(Fault::bad_file, bias == "none", file, ": bias \"", bias, "\" is not supported");
  const std::string task = get_string_or(json, file, "task_type", "CAUSAL_LM");
  CHECK_AS(Fault::bad_file, task == "CAUSAL_LM", file, ": task_type \"", task,
           "\" is not supported; CAUSAL_LM is");
}
}  // namespace

int64_t AdapterConfig::rank(std::string_view module) const {
  return value_for(rank_pattern, module, r, "rank_pattern");
}

double AdapterConfig::alpha(std::string_view module) const {
  return value_for(alpha_pattern, module, lora_alpha, "alpha_pattern");
}

double AdapterConfig::scale(std::string_view module) const {
  const double width = static_cast<double>(rank(module));
  return alpha(module) / (use_rslora ? std::sqrt(width) : width);
}

bool AdapterConfig::targets(std::string_view module) const {
  if (ends_in_name(module, exclude_modules) || !ends_in_name(module, target_modules)) return false;
  const bool by_path =
      std::find(target_modules.begin(), target_modules.end(), module) != target_modules.end();
  if (layers_to_transform.empty() || by_path) return true;
  constexpr std::string_view kLayers = "model.layers.";
  int64_t layer = -1;
  if (module.starts_with(kLayers))
    std::from_chars(module.data() + kLayers.size(), module.data() + module.size(), layer);
  return std::find(layers_to_transform.begin(), layers_to_transform.end(), layer) !=
         layers_to_transform.end();
}

bool AdapterConfig::saves(std::string_view module) const {
  return ends_in_name(module, modules_to_save);
}

bool AdapterConfig::is_plain() const {
  return !use_rslora && rank_pattern.empty() && alpha_pattern.empty() &&
         layers_to_transform.empty() && exclude_modules.empty() && !ensure_weight_tying;
}

AdapterConfig parse_adapter_config(const Json& json, const std::string& file) {
  const std::string type = get_string(json, file, "peft_type");
  CHECK_AS(Fault::bad_file, type == "LORA", file, ": peft_type \"", type,
           "\" is not supported; LORA is");
  check_keys(json, file);
  check_initialization(json, file);
  AdapterConfig config;
  config.r = static_cast<int64_t>(get_uint_or(json, file, "r", kMaxRank, 8));
  CHECK_AS(Fault::bad_file, config.r > 0, file, ": \"r\" is 0");
  if (const Json* alpha = find_field(json, file, "lora_alpha"))
    config.lora_alpha = alpha_of(*alpha, file, "lora_alpha");
  config.lora_dropout = get_number_or(json, file, "lora_dropout", 0);
  CHECK_AS(Fault::bad_file, config.lora_dropout >= 0 && config.lora_dropout < 1, file,
           ": lora_dropout ", config.lora_dropout, " is not within 0 and 1");
  config.use_rslora = get_bool_or(json, file, "use_rslora", false);
  config.ensure_weight_tying = get_bool_or(json, file, "ensure_weight_tying", false);
  read_patterns(json, file, config);
  read_layers(json, file, config);
  CHECK_AS(Fault::bad_file, find_field(json, file, "target_modules"), file,
           ": target_modules is missing");
  config.target_modules = module_names(json, file, "target_modules");
  config.modules_to_save = module_names(json, file, "modules_to_save");
  config.exclude_modules = module_names(json, file, "exclude_modules");
  config.base_model_name_or_path = get_string_or(json, file, "base_model_name_or_path", "");
  config.revision = get_string_or(json, file, "revision", "");
  return config;
}

Json to_json(const AdapterConfig& config) {
  const auto number = [](double value) {
    return value == std::floor(value) ? Json(static_cast<int64_t>(value)) : Json(value);
  };
  Json json = {{"alpha_pattern", Json::object()},
               {"auto_mapping", nullptr},
               {"base_model_name_or_path", config.base_model_name_or_path},
               {"bias", "none"},
               {"fan_in_fan_out", false},
               {"inference_mode", true},
               {"init_lora_weights", true},
               {"layers_pattern", nullptr},
               {"layers_to_transform", nullptr},
               {"lora_alpha", number(config.lora_alpha)},
               {"lora_dropout", config.lora_dropout},
               {"modules_to_save", nullptr},
               {"peft_type", "LORA"},
               {"r", config.r},
               {"rank_pattern", config.rank_pattern},
               {"revision", nullptr},
               {"target_modules", config.target_modules},
               {"task_type", "CAUSAL_LM"},
               {"use_dora", false},
               {"use_rslora", config.use_rslora}};
  for (const auto& [pattern, alpha] : config.alpha_pattern)
    json["alpha_pattern"][pattern] = number(alpha);
  if (!config.modules_to_save.empty()) json["modules_to_save"] = config.modules_to_save;
  if (!config.exclude_modules.empty()) json["exclude_modules"] = config.exclude_modules;
  if (!config.layers_to_transform.empty()) json["layers_to_transform"] = config.layers_to_transform;
  if (!config.revision.empty()) json["revision"] = config.revision;
  if (config.ensure_weight_tying) json["ensure_weight_tying"] = true;
  return json;
}

AdapterConfig read_adapter_config(const std::filesystem::path& folder) {
  const auto path = folder / "adapter_config.json";
  return parse_adapter_config(read_json_file(path), path.string());
}

void write_adapter_config(const std::filesystem::path& folder, const AdapterConfig& config) {
  write_json_file(folder / "adapter_config.json", to_json(config));
}

}  // namespace mullion
