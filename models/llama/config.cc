// config.json of Hugging Face. Fields that would change what is computed and are not supported are
// refused by name; those that nobody here knows are announced.
#include "models/llama/config.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {

namespace {
using Json = nlohmann::json;

// Far above any known model, and small enough that products of two sizes fit 64 bits.
constexpr uint64_t kMaxSize = uint64_t{1} << 24, kMaxLayers = 4096, kMaxContext = uint64_t{1} << 31;
constexpr uint64_t kMaxToken = uint64_t{1} << 31;

constexpr char kKnownKeys[] = R"(
    architectures model_type vocab_size hidden_size intermediate_size num_hidden_layers
    num_attention_heads num_key_value_heads head_dim hidden_act max_position_embeddings
    original_max_position_embeddings initializer_range rms_norm_eps rope_theta rope_scaling
    rope_parameters attention_bias mlp_bias attention_dropout tie_word_embeddings bos_token_id
    eos_token_id pad_token_id torch_dtype dtype use_cache transformers_version pretraining_tp
    partial_rotary_factor _name_or_path quantization_config)";

// What transformers and others write into every configuration, and what no LLaMA computes with:
// settings of generation, of training, of heads for other tasks, of caches.
constexpr char kWithoutEffect[] = R"(
    _attn_implementation_autoset _commit_hash add_cross_attention attn_implementation
    bad_words_ids begin_suppress_tokens chunk_size_feed_forward cross_attention_hidden_size
    decoder_start_token_id diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty finetuning_task
    forced_bos_token_id forced_eos_token_id id2label is_decoder is_encoder_decoder
    is_llama_config label2id length_penalty max_length max_sequence_length min_length
    no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_attentions
    output_hidden_states output_scores prefix problem_type remove_invalid_values
    repetition_penalty return_dict return_dict_in_generate sep_token_id suppress_tokens
    task_specific_params temperature tie_encoder_decoder tokenizer_class top_k top_p torchscript
    transformers.js_config typical_p unk_token_id unsloth_fixed unsloth_version use_bfloat16)";

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

int64_t size_field(const Json& json, const std::string& file, const char* key, uint64_t max) {
  return static_cast<int64_t>(get_uint(json, file, key, max));
}

int64_t size_field_or(const Json& json, const std::string& file, const char* key, uint64_t max,
                      int64_t otherwise) {
  return static_cast<int64_t>(get_uint_or(json, file, key, max, static_cast<uint64_t>(otherwise)));
}

void check_architecture(const Json& json, const std::string& file) {
  const std::string type = get_string_or(json, file, "model_type", "llama");
  CHECK_AS(Fault::bad_file, type == "llama", file, ": model_type \"", type,
           "\" is not supported; llama is");
  if (!find_field(json, file, "architectures")) return;
  for (const std::string& name : get_strings(json, file, "architectures")) {
    // "LLaMAForCausalLM" is the spelling of the first conversions.
    const bool known = name == "LlamaForCausalLM" || name == "LLaMAForCausalLM";
    CHECK_AS(Fault::bad_file, known, file, ": architectures names \"", name.substr(0, 60),
             "\", which is not supported; LlamaForCausalLM is");
  }
}

void refuse_unsupported(const Json& json, const std::string& file) {
  check_architecture(json, file);
  const std::string act = get_string_or(json, file, "hidden_act", "silu");
  CHECK_AS(Fault::bad_file, act == "silu" || act == "swish", file, ": hidden_act \"", act,
           "\" is not supported; silu is");
  for (const char* key : {"attention_bias", "mlp_bias"}) {
    CHECK_AS(Fault::bad_file, !get_bool_or(json, file, key, false), file, ": ", key,
             " true is not supported");
  }
  for (const char* key : {"quantization_config", "compression_config", "quantization"}) {
    const Json* value = find_field(json, file, key);
    CHECK_AS(Fault::bad_file, !value || is_off(*value), file, ": ", key,
             ": weights quantised in safetensors are not supported");
  }
  CHECK_AS(Fault::bad_file, get_number_or(json, file, "partial_rotary_factor", 1) == 1, file,
           ": a partial_rotary_factor other than 1 is not supported");
}

// A number that a file may say in several places, which must then agree.
class Agreed {
 public:
  Agreed(std::string file, std::string key) : file_(std::move(file)), key_(std::move(key)) {}
  void add(const Json& object, const std::string& place) {
    if (!find_field(object, file_, key_)) return;
    const double value = get_number(object, file_ + place, key_);
    CHECK_AS(Fault::bad_file, !value_ || *value_ == value, file_, ": ", key_, " is ", *value_,
             place_, " and ", value, place);
    value_ = value;
    place_ = place;
  }
  std::optional<double> value() const { return value_; }

 private:
  std::string file_, key_, place_;
  std::optional<double> value_;
};

// transformers 5 keeps rope_theta and the scaling together in rope_parameters, older ones apart. A
// rope_theta inside rope_scaling is read by 5 (by 4.51 not); where two places differ, readers do.
void read_rope(const Json& json, const std::string& file, LlamaConfig& config) {
  const Json* scaling = find_field(json, file, "rope_scaling");
  const Json* parameters = find_field(json, file, "rope_parameters");
  Agreed theta(file, "rope_theta"), original(file, "original_max_position_embeddings");
  theta.add(json, "");
  original.add(json, "");
  if (scaling) {
    config.rope_scaling = parse_rope_scaling(*scaling, file + ": rope_scaling");
    theta.add(*scaling, " in rope_scaling");
    original.add(*scaling, " in rope_scaling");
  }
  if (parameters) {
    theta.add(*parameters, " in rope_parameters");
    original.add(*parameters, " in rope_parameters");
    const bool has_type =
        find_field(*parameters, file, "rope_type") || find_field(*parameters, file, "type");
    const RopeScaling inner =
        has_type ? parse_rope_scaling(*parameters, file + ": rope_parameters") : RopeScaling{};
    CHECK_AS(Fault::bad_file, !scaling || inner == config.rope_scaling, file,
             ": rope_scaling and rope_parameters disagree");
    config.rope_scaling = inner;
  }
  config.rope_theta = theta.value().value_or(config.rope_theta);
  if (config.rope_scaling.kind == RopeScaling::Kind::linear && original.value()) {
    CHECK_AS(Fault::bad_file,
             *original.value() >= 0 && *original.value() <= kMaxContext &&
                 *original.value() == std::floor(*original.value()),
             file, ": original_max_position_embeddings ", *original.value(),
             " is no number of positions");
    config.rope_scaling.original_max_position_embeddings = static_cast<int64_t>(*original.value());
  }
}

void read_tokens(const Json& json, const std::string& file, LlamaConfig& config) {
  if (const Json* bos = find_field(json, file, "bos_token_id")) {
    config.bos_token_id = static_cast<int64_t>(as_uint(*bos, file, "bos_token_id", kMaxToken));
  }
  // Llama-1 and -2 files say -1 for "none".
  const Json* pad = find_field(json, file, "pad_token_id");
  if (pad && *pad != -1) {
    config.pad_token_id = static_cast<int64_t>(as_uint(*pad, file, "pad_token_id", kMaxToken));
  }
  if (const Json* eos = find_field(json, file, "eos_token_id")) {
    const Json list = eos->is_array() ? *eos : Json::array({*eos});
    for (const Json& id : list) {
      config.eos_token_ids.push_back(
          static_cast<int64_t>(as_uint(id, file, "eos_token_id", kMaxToken)));
    }
  }
}

DType read_dtype(const Json& json, const std::string& file) {
  if (find_field(json, file, "torch_dtype") && find_field(json, file, "dtype"))
    CHECK_AS(Fault::bad_file, json["torch_dtype"] == json["dtype"], file, ": torch_dtype ",
             json["torch_dtype"].dump().substr(0, 40), " and dtype ",
             json["dtype"].dump().substr(0, 40), " disagree");
  const std::string name =
      get_string_or(json, file, "torch_dtype", get_string_or(json, file, "dtype", "float32"));
  if (name == "float32" || name == "auto") return DType::f32;
  if (name == "bfloat16") return DType::bf16;
  if (name == "float16") return DType::f16;
  fail(Fault::bad_file, file, ": torch_dtype \"", name,
       "\" is not supported; float32, bfloat16 and float16 are");
}

const char* torch_name(DType type) {
  return type == DType::bf16 ? "bfloat16" : type == DType::f16 ? "float16" : "float32";
}

Json null_or(const std::optional<int64_t>& value) { return value ? Json(*value) : Json(nullptr); }
}  // namespace

LlamaConfig parse_llama_config(const Json& json, const std::string& file) {
  refuse_unsupported(json, file);
  LlamaConfig config;
  config.vocab_size = size_field(json, file, "vocab_size", kMaxSize);
  config.hidden_size = size_field(json, file, "hidden_size", kMaxSize);
  config.intermediate_size = size_field(json, file, "intermediate_size", kMaxSize);
  config.num_hidden_layers = size_field(json, file, "num_hidden_layers", kMaxLayers);
  config.num_attention_heads = size_field(json, file, "num_attention_heads", kMaxSize);
  config.num_key_value_heads =
      size_field_or(json, file, "num_key_value_heads", kMaxSize, config.num_attention_heads);
  CHECK_AS(Fault::bad_file, config.num_attention_heads > 0, file, ": num_attention_heads is 0");
  config.head_dim = size_field_or(json, file, "head_dim", kMaxSize,
                                  config.hidden_size / config.num_attention_heads);
  CHECK_AS(
      Fault::bad_file,
      find_field(json, file, "head_dim") || config.hidden_size % config.num_attention_heads == 0,
      file, ": hidden_size ", config.hidden_size, " is no multiple of num_attention_heads ",
      config.num_attention_heads);
  config.max_position_embeddings = size_field_or(json, file, "max_position_embeddings", kMaxContext,
                                                 config.max_position_embeddings);
  config.rms_norm_eps = get_number_or(json, file, "rms_norm_eps", config.rms_norm_eps);
  config.initializer_range = get_number_or(json, file, "initializer_range", 0.02);
  config.attention_dropout = get_number_or(json, file, "attention_dropout", 0);
  config.tie_word_embeddings = get_bool_or(json, file, "tie_word_embeddings", false);
  config.dtype = read_dtype(json, file);
  read_rope(json, file, config);
  read_tokens(json, file, config);
  validate(config, file);
  return config;
}

LlamaConfig read_llama_config(const std::filesystem::path& config_json,
                              std::vector<std::string>* notes) {
  constexpr JsonLimits kLimits{.max_bytes = size_t{4} << 20, .max_depth = 64};
  const Json json = read_json_file(config_json, kLimits);
  LlamaConfig config = parse_llama_config(json, config_json.string());
  if (!notes) return config;
  std::vector<std::string> unknown = unknown_llama_config_keys(json);
  std::erase_if(unknown, [&](const std::string& key) {
    return contains(words_in(kWithoutEffect), key) || is_off(json[key]);
  });
  if (!unknown.empty())
    notes->push_back(concat(config_json.string(),
                            ": not used here: ", joined(unknown, ", ", [&](const std::string& key) {
                              return key.substr(0, 60) + " " + json[key].dump().substr(0, 40);
                            })));
  return config;
}

std::vector<std::string> llama_config_keys() { return words_in(kKnownKeys); }

std::vector<std::string> unknown_llama_config_keys(const Json& json) {
  const std::vector<std::string> known = llama_config_keys();
  std::vector<std::string> unknown;
  for (const auto& [key, value] : json.items())
    if (!contains(known, key)) unknown.push_back(key);
  return unknown;
}

Json to_json(const LlamaConfig& config) {
  Json json = {{"architectures", {"LlamaForCausalLM"}},
               {"model_type", "llama"},
               {"vocab_size", config.vocab_size},
               {"hidden_size", config.hidden_size},
               {"intermediate_size", config.intermediate_size},
               {"num_hidden_layers", config.num_hidden_layers},
               {"num_attention_heads", config.num_attention_heads},
               {"num_key_value_heads", config.num_key_value_heads},
               {"head_dim", config.head_dim},
               {"hidden_act", "silu"},
               {"max_position_embeddings", config.max_position_embeddings},
               {"initializer_range", config.initializer_range},
               {"rms_norm_eps", config.rms_norm_eps},
               {"rope_theta", config.rope_theta},
               {"rope_scaling", to_json(config.rope_scaling)},
               {"attention_bias", false},
               {"attention_dropout", config.attention_dropout},
               {"mlp_bias", false},
               {"tie_word_embeddings", config.tie_word_embeddings},
               {"bos_token_id", null_or(config.bos_token_id)},
               {"pad_token_id", null_or(config.pad_token_id)},
               {"torch_dtype", torch_name(config.dtype)},
               {"use_cache", true}};
  const auto& eos = config.eos_token_ids;
  json["eos_token_id"] = eos.empty() ? Json(nullptr) : eos.size() == 1 ? Json(eos[0]) : Json(eos);
  // Beside rope_scaling, not in it: what max_position_embeddings was before it was raised.
  const RopeScaling& scaling = config.rope_scaling;
  if (scaling.kind == RopeScaling::Kind::linear && scaling.original_max_position_embeddings > 0) {
    json["original_max_position_embeddings"] = scaling.original_max_position_embeddings;
  }
  return json;
}

void validate(const LlamaConfig& c, const std::string& file) {
  const auto positive = [&](int64_t value, uint64_t max, const char* field) {
    CHECK_AS(Fault::bad_file, value > 0 && static_cast<uint64_t>(value) <= max, file, ": ", field,
             " ", value, " is not within 1 and ", max);
  };
  positive(c.vocab_size, kMaxSize, "vocab_size");
  positive(c.hidden_size, kMaxSize, "hidden_size");
  positive(c.intermediate_size, kMaxSize, "intermediate_size");
  positive(c.num_hidden_layers, kMaxLayers, "num_hidden_layers");
  positive(c.num_attention_heads, kMaxSize, "num_attention_heads");
  positive(c.num_key_value_heads, kMaxSize, "num_key_value_heads");
  positive(c.head_dim, kMaxSize, "head_dim");
  positive(c.max_position_embeddings, kMaxContext, "max_position_embeddings");
  CHECK_AS(Fault::bad_file, c.num_attention_heads % c.num_key_value_heads == 0, file,
           ": num_attention_heads ", c.num_attention_heads,
           " is no multiple of num_key_value_heads ", c.num_key_value_heads);
  CHECK_AS(Fault::bad_file, c.head_dim % 2 == 0, file, ": head_dim ", c.head_dim, " is odd");
  CHECK_AS(Fault::bad_file, c.num_attention_heads <= static_cast<int64_t>(kMaxSize) / c.head_dim,
           file, ": ", c.num_attention_heads, " heads of ", c.head_dim, " are wider than ",
           kMaxSize);
  CHECK_AS(Fault::bad_file, c.rms_norm_eps > 0 && c.rms_norm_eps < 1, file, ": rms_norm_eps ",
           c.rms_norm_eps, " is not within 0 and 1");
  CHECK_AS(Fault::bad_file, c.rope_theta >= 1 && c.rope_theta <= 1e12, file, ": rope_theta ",
           c.rope_theta, " is not within 1 and 1e12");
  CHECK_AS(Fault::bad_file, c.initializer_range >= 0 && c.initializer_range <= 10, file,
           ": initializer_range ", c.initializer_range, " is not within 0 and 10");
  CHECK_AS(Fault::bad_file, c.attention_dropout >= 0 && c.attention_dropout < 1, file,
           ": attention_dropout ", c.attention_dropout, " is not within 0 and 1");
  const auto token = [&](int64_t id, const char* field) {
    CHECK_AS(Fault::bad_file, id >= 0 && id < c.vocab_size, file, ": ", field, " ", id,
             " is outside the vocabulary of ", c.vocab_size);
  };
  if (c.bos_token_id) token(*c.bos_token_id, "bos_token_id");
  for (const int64_t id : c.eos_token_ids) token(id, "eos_token_id");
  // A padding id beyond the vocabulary is common and harmless: padding is masked by position.
  CHECK_AS(Fault::bad_file, !c.pad_token_id || *c.pad_token_id >= 0, file, ": pad_token_id ",
           *c.pad_token_id, " is negative");
}

}  // namespace mullion
