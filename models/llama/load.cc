// Names found, shapes compared, values filled; pairs are laid side by side for one product.
#include "models/llama/load.h"

#include <algorithm>
#include <map>
#include <set>

#include "nn/init.h"
#include "nn/placeholder.h"
#include "nn/state.h"
#include "tensor/absent.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/random.h"

#include <nlohmann/json.hpp>

namespace mullion {
namespace {

// Those of the projections that read the same.
void lay_all_pairs_together(Llama& model) {
  for (const auto& layer : model.layers()) {
    LlamaAttention& a = layer->self_attn;
    lay_pairs_together({&a.q_proj, &a.k_proj, &a.v_proj});
    lay_pairs_together({&layer->mlp.gate_proj, &layer->mlp.up_proj});
  }
}

bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The parts of a trained parameter's name as an adapter key.
AdapterKey key_of(const std::string& name) {
  using Kind = AdapterKey::Kind;
  for (const auto& [end, kind] : {std::pair{".lora_A.weight", Kind::lora_a},
                                  {".lora_B.weight", Kind::lora_b},
                                  {".weight", Kind::full}})
    if (ends_with(name, end)) return {kind, name.substr(0, name.size() - std::string(end).size())};
  fail(Fault::other, "adapter: the trained parameter ", name, " has no place in an adapter");
}

std::string parameter_name(const AdapterKey& key) {
  if (key.kind == AdapterKey::Kind::lora_a) return key.module + ".lora_A.weight";
  if (key.kind == AdapterKey::Kind::lora_b) return key.module + ".lora_B.weight";
  return key.weight();
}

bool is_norm(const std::string& name) { return name.find("norm") != std::string::npos; }
constexpr const char* kEmbedding = "model.embed_tokens.weight";

// A whole parameter that an adapter brings is held in f32, whatever the base's matrices are.
void hold_in_f32(Llama& model, const std::string& weight) {
  for_each_weight(model, [&](const std::string& name, Weight& w) {
    if (name == weight && w.is_blocks()) w = raw::to_device(widened(w.blocks()), w.device());
  });
  for_each_parameter(model, [&](const std::string& name, Tensor& p) {
    if (name == weight) p = raw::cast(p, DType::f32);
  });
}

// The embedding gets values of its own type and a head that no longer follows it.
void own_embedding(Llama& model) {
  model.untie_head();
  hold_in_f32(model, kEmbedding);
}

std::map<std::string, Tensor> by_name(Llama& model) {
  std::map<std::string, Tensor> result;
  for (NamedParameter& p : named_parameters(model)) result.emplace(p.name, p.value);
  return result;
}

std::unique_ptr<TensorSource> open_adapter(const std::filesystem::path& folder) {
  return open_safetensors(folder, "adapter_model");
}

bool same_values(const TensorSource& source, const TensorEntry& a, const TensorEntry& b) {
  std::vector<float> x(a.count), y(b.count);
  if (a.count != b.count) return false;
  source.read_f32(a.name, x.data());
  source.read_f32(b.name, y.data());
  return x == y;
}

// Makes room for the whole parameters of an adapter, as PEFT does: a module of modules_to_save is a
// copy beside the base's, so that an embedding leaves a head that was tied to it behind; any other
// goes into the base itself, and the head follows (PEFT 0.15 and 0.21 alike).
// Returns the modules, less a head that is the embedding once more.
std::set<std::string> prepare_whole(Llama& model, const TensorSource& source,
                                    const AdapterConfig& config) {
  std::map<std::string, const TensorEntry*> whole;  // by module
  for (const TensorEntry& entry : source.entries()) {
    const AdapterKey key = parse_adapter_key(entry.name, source.name());
    if (key.kind == AdapterKey::Kind::full) whole.emplace(key.module, &entry);
  }
  for_each_module<Linear>(model, [&](const std::string& path, Linear& projection) {
    CHECK_AS(Fault::bad_file, !projection.has_lora() || !whole.contains(path), source.name(), ": ",
             path, " has both a pair and a weight of its own");
  });
  const bool tied = model.head_is_tied(), has_head = whole.contains("lm_head");
  const bool saves_head = config.saves("lm_head"), saves_embed = config.saves("model.embed_tokens");
  if (tied && has_head && !saves_head && !config.ensure_weight_tying) {
    const auto embed = whole.find("model.embed_tokens");
    CHECK_AS(Fault::bad_file,
             embed != whole.end() && same_values(source, *whole["lm_head"], *embed->second),
             source.name(), ": has ", whole["lm_head"]->name,
             ", but the base's head is its embedding and modules_to_save does not name lm_head");
  }
  CHECK_AS(Fault::bad_file, has_head || !saves_head || config.ensure_weight_tying, source.name(),
           ": lm_head.weight is missing, though adapter_config.json saves its module");
  // PEFT writes a head that follows the embedding beside it.
  const bool follows = config.ensure_weight_tying && !has_head;
  if (tied && ((saves_embed && !follows) || (has_head && (saves_head || saves_embed))))
    model.untie_head();
  for (const auto& [module, entry] : whole) hold_in_f32(model, module + ".weight");
  const auto require = [&](const std::string& name) {
    const std::string module = name.substr(0, name.rfind('.'));
    CHECK_AS(Fault::bad_file, !config.saves(module) || whole.contains(module), source.name(), ": ",
             name, " is missing, though adapter_config.json saves its module");
  };
  for (const NamedParameter& p : named_parameters(model)) require(p.name);
  for_each_weight(model, [&](const std::string& name, Weight&) { require(name); });  // blocks too
  std::set<std::string> modules;
  for (const auto& [module, entry] : whole)
    if (module != "lm_head" || !model.head_is_tied()) modules.insert(module);
  return modules;
}

// Copies every tensor of the adapter, whole ones of `whole` alone, into the parameter it names;
// returns the names.
std::vector<std::string> fill(Llama& model, const TensorSource& source,
                              const std::set<std::string>& whole) {
  const auto parameters = by_name(model);
  std::vector<std::string> filled;
  for (const TensorEntry& entry : source.entries()) {
    const AdapterKey key = parse_adapter_key(entry.name, source.name());
    if (key.kind == AdapterKey::Kind::full && !whole.contains(key.module)) continue;
    const std::string name = parameter_name(key);
    const auto found = parameters.find(name);
    CHECK_AS(Fault::bad_file, found != parameters.end(), source.name(), ": ", entry.name,
             " belongs to no part of the model");
    const Tensor& target = found->second;
    CHECK_AS(Fault::bad_file,
             entry.shape == std::vector<int64_t>(target.shape().begin(), target.shape().end()),
             "loading ", entry.name, ": ", shape_text(entry.shape), " in ", source.name(), ", ",
             target.shape(), " in the model");
    const Tensor values = Tensor::empty(target.shape());
    source.read_f32(entry.name, values.data<float>());
    CHECK_AS(Fault::bad_file, std::count(filled.begin(), filled.end(), name) == 0, source.name(),
             ": ", entry.name, " gives ", name, " a second time");
    raw::copy_into(values, target);
    filled.push_back(name);
  }
  return filled;
}

}  // namespace

std::unique_ptr<Llama> load_llama(const LlamaCheckpoint& checkpoint,
                                  const LlamaLoadOptions& options) {
  LlamaConfig config = checkpoint.config;
  if (options.context) extend_context(config, options.context);
  auto model = without_matrices<Llama>(config);
  const TensorSource& weights = *checkpoint.weights;
  if (options.as_stored)
    for_each_weight(*model, [&](const std::string& name, Weight& w) {
      if (is_block_type(weights.at(name).type))
        w = load_blocks(weights, name, w.shape(), options.device);
    });
  for_each_parameter(*model, [&](const std::string& name, Tensor& p) {
    const bool stays = options.as_stored && weights.at(name).type == StoredType::bf16;
    const DType held = stays ? DType::bf16 : options.matrix_dtype;
    if (is_absent(p)) p = Tensor::empty(p.shape(), held);
    load_tensor(*checkpoint.weights, name, p);
    p = raw::to_device(p, options.device);
  });
  return model;
}

bool is_quantised(const TensorSource& weights) { return !describe_blocks(weights).empty(); }

std::string describe_blocks(const TensorSource& weights) {
  std::map<StoredType, int64_t> count;
  for (const TensorEntry& entry : weights.entries())
    if (entry.shape.size() == 2 && is_block_type(entry.type)) ++count[entry.type];
  std::string text;
  for (const auto& [type, n] : count)
    text += concat(text.empty() ? "" : ", ", name_of(type), " ", n);
  return text;
}

void save_llama(const std::filesystem::path& folder, Llama& model) {
  for_each_weight(model, [](const std::string& name, Weight& w) {
    CHECK(!w.is_blocks(), "saving a model: ", name, " is held as blocks");
  });
  std::filesystem::create_directories(folder);
  LlamaConfig config = model.config();
  config.tie_word_embeddings = model.head_is_tied();
  write_json_file(folder / "config.json", to_json(config));
  save_tensors(folder / "model.safetensors", named_parameters(model));
}

void add_lora(Llama& model, const LoraOptions& options, uint64_t seed) {
  std::map<std::string, int> matched;
  for (const std::string& target : options.targets) matched[target] = 0;
  for_each_module<Linear>(model, [&](const std::string& path, Linear& projection) {
    for (auto& [target, count] : matched) {
      if (!ends_with(path, "." + target)) continue;
      projection.add_lora(options.rank, options.alpha);
      projection.lora_dropout = options.dropout;
      projection.lora_seed = mix_bits(seed, init::stream_of(path + ".lora_dropout"));
      init::kaiming_uniform(projection.lora_a, seed, init::stream_of(path + ".lora_A.weight"));
      ++count;
    }
  });
  for (const auto& [target, count] : matched)
    CHECK_AS(Fault::usage, count > 0, "LoRA: no projection of the model is called ", target);
  lay_all_pairs_together(model);
  if (options.train_embedding) own_embedding(model);
  set_trainable(model, [&](const std::string& name) {
    return name.find(".lora_") != std::string::npos ||
           (options.train_embedding && name == kEmbedding) ||
           (options.train_norms && is_norm(name));
  });
}

void save_adapter(const std::filesystem::path& folder, Llama& model, const LoraOptions& options,
                  const std::string& base_name) {
  std::filesystem::create_directories(folder);
  AdapterConfig config;
  config.r = options.rank;
  config.lora_alpha = options.alpha;
  config.lora_dropout = options.dropout;
  config.target_modules = options.targets;
  if (options.train_embedding) config.modules_to_save.push_back("embed_tokens");
  if (options.train_norms)
    for (const char* norm : {"input_layernorm", "post_attention_layernorm", "norm"})
      config.modules_to_save.emplace_back(norm);
  config.base_model_name_or_path = base_name;
  write_adapter_config(folder, config);
  std::vector<NamedParameter> tensors;
  for (const NamedParameter& p : trainable_parameters(model))
    tensors.push_back({adapter_key_text(key_of(p.name)), p.value});
  save_tensors(folder / "adapter_model.safetensors", tensors);
}

AdapterConfig load_adapter(Llama& model, const std::filesystem::path& folder) {
  const AdapterConfig config = read_adapter_config(folder);
  for_each_module<Linear>(model, [&](const std::string& path, Linear& projection) {
    if (!config.targets(path)) return;
    projection.add_lora(config.rank(path), config.alpha(path));
    projection.lora_scale = config.scale(path);
  });
  lay_all_pairs_together(model);
  const auto source = open_adapter(folder);
  const std::set<std::string> whole = prepare_whole(model, *source, config);
  const std::vector<std::string> filled = fill(model, *source, whole);
  for (const NamedParameter& p : named_parameters(model))
    if (p.name.find(".lora_") != std::string::npos)
      CHECK_AS(Fault::bad_file, std::count(filled.begin(), filled.end(), p.name), source->name(),
               ": ", p.name, " is missing, though adapter_config.json targets its module");
  set_trainable(model, [](const std::string&) { return false; });
  return config;
}

std::vector<std::string> load_adapter_values(Llama& model, const std::filesystem::path& folder,
                                             bool others_stay) {
  const AdapterConfig config = read_adapter_config(folder);
  const auto source = open_adapter(folder);
  // A value that is not trained would be used here and not saved again.
  const auto parameters = by_name(model);
  std::set<std::string> whole, blocks;
  for_each_weight(model, [&](const std::string& name, Weight& w) {
    if (w.is_blocks()) blocks.insert(name);
  });
  for (const TensorEntry& entry : source->entries()) {
    const AdapterKey key = parse_adapter_key(entry.name, source->name());
    const auto found = parameters.find(parameter_name(key));
    CHECK_AS(Fault::bad_file,
             (found == parameters.end() || requires_grad(found->second)) &&
                 !blocks.contains(parameter_name(key)),
             source->name(), ": has ", entry.name, ", which is not to be trained");
    if (key.kind != AdapterKey::Kind::full) continue;
    CHECK_AS(Fault::bad_file, config.saves(key.module), source->name(), ": has ", entry.name,
             ", which modules_to_save of adapter_config.json does not name");
    whole.insert(key.module);
  }
  const std::vector<std::string> filled = fill(model, *source, whole);
  std::vector<std::string> kept;
  for (const NamedParameter& p : trainable_parameters(model)) {
    if (std::count(filled.begin(), filled.end(), p.name)) continue;
    const AdapterKey key = key_of(p.name);
    const bool stays =
        others_stay && key.kind == AdapterKey::Kind::full && !config.saves(key.module);
    CHECK_AS(Fault::bad_file, stays, source->name(), ": ", p.name,
             ", which is to be trained, is missing");
    kept.push_back(p.name);
  }
  return kept;
}

}  // namespace mullion
