// From a name to files, a configuration with its rope, and weights; each step may refuse.
#include "apps/llama/model_options.h"

#include <cmath>
#include <map>

#include "apps/llama/same_model.h"
#include "apps/options/amp.h"
#include "apps/options/device.h"
#include "apps/program/log.h"
#include "apps/run/run_checkpoint.h"
#include "tensor/io/file.h"
#include "tensor/io/gguf.h"
#include "tensor/io/safetensors.h"
#include "tensor/io/sha256.h"
#include "tensor/words.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
using Kind = RopeScaling::Kind;

// The number behind --rope-factor; nothing for "auto".
std::optional<double> rope_factor(const Options& options) {
  const auto text = options.get<std::string>("context.rope_factor");
  if (text == "auto") return std::nullopt;
  const auto factor = number_in<double>(text);
  CHECK_AS(Fault::usage, factor && *factor >= 1 && *factor <= 1e6, "--rope-factor: ", text,
           " is neither auto nor a number from 1 to 1e6");
  return factor;
}

int64_t original_context(const LlamaConfig& config) {
  const int64_t original = config.rope_scaling.original_max_position_embeddings;
  return original > 0 ? original : config.max_position_embeddings;
}

void interpolate(LlamaConfig& config, double factor) {
  CHECK_AS(Fault::usage, config.rope_scaling.kind != Kind::llama3,
           "--rope-scaling linear: the model has llama3 scaling, on which none can be put");
  const int64_t original = original_context(config);
  const double total = config.rope_scaling.factor * factor;
  if (total == 1) return;
  config.rope_scaling = {Kind::linear, total, 1, 4, original};
  config.max_position_embeddings = static_cast<int64_t>(static_cast<double>(original) * total);
}

// The adapter's scaling, over the base's own context.
void apply_note(LlamaConfig& config, const LongContextNote& note) {
  const int64_t original = original_context(config);
  config.rope_scaling = note.rope_scaling;
  if (config.rope_scaling.kind == Kind::linear &&
      config.rope_scaling.original_max_position_embeddings == 0)
    config.rope_scaling.original_max_position_embeddings = original;
  config.max_position_embeddings = note.max_position_embeddings;
}
}  // namespace

void add_rope_options(OptionTable& table) {
  table
      .add("context.rope_scaling", "--rope-scaling", "auto",
           "auto: as the model or its adapter says, extended in training; none, linear")
      .one_of({"auto", "none", "linear"});
  table.add("context.rope_factor", "--rope-factor", "auto",
            "factor of linear scaling (Position Interpolation), or auto: what the context needs");
}

void add_model_options(OptionTable& table) {
  table
      .add_optional<fs::path>("model.path", "-m,--model",
                              "Hugging Face folder of a LLaMA, a .gguf file, or a run's folder")
      .free_on_resume();
  table.add_optional<fs::path>("model.adapter", "--adapter",
                               "PEFT adapter folder to put on it, or a run's folder");
  add_weights_option(table);
  add_amp_option(table);
  add_rope_options(table);
}

void add_weights_option(OptionTable& table) {
  table
      .add("model.dtype", "--weights,--dtype", "auto",
           "how frozen matrices are held: stored (the blocks of a quantised file), f32 or bf16; "
           "auto: stored for a quantised file that is not trained whole, else f32")
      .one_of({"auto", "stored", "f32", "bf16"});
}

LlamaLoadOptions held_weights(const Options& options, const TensorSource* weights,
                              const std::string& trains_all) {
  const auto how = options.get<std::string>("model.dtype");
  CHECK_AS(Fault::usage, trains_all.empty() || how == "auto" || how == "f32", "--weights ", how,
           ": only frozen matrices can be held so; ", trains_all, " trains all");
  LlamaLoadOptions held;
  if (how == "bf16") held.matrix_dtype = DType::bf16;
  if (how == "bf16" && weights && is_quantised(*weights))
    log_warning("--weights bf16 (", options.source("model.dtype"),
                "): a quantised file is widened and rounded; auto keeps its blocks");
  held.as_stored =
      how == "stored" || (how == "auto" && trains_all.empty() && weights && is_quantised(*weights));
  return held;
}

std::string held_name(const LlamaLoadOptions& held) {
  return held.as_stored ? "stored" : std::string(name_of(held.matrix_dtype));
}

std::string describe_held(const TensorSource& weights, const LlamaLoadOptions& held) {
  if (!held.as_stored) return held_name(held);
  const std::string blocks = describe_blocks(weights);
  return blocks.empty() ? "as stored, which is without blocks" : concat("as stored (", blocks, ")");
}

void apply_rope_options(LlamaConfig& config, const Options& options, int64_t context, bool extend,
                        const std::optional<LongContextNote>& note) {
  const auto kind = options.get<std::string>("context.rope_scaling");
  const std::optional<double> factor = rope_factor(options);
  CHECK_AS(Fault::usage, kind != "none" || !factor, "--rope-factor ", factor.value_or(1),
           " contradicts --rope-scaling none");
  if (kind == "auto" && !factor) {
    if (note) apply_note(config, *note);
    if (extend) extend_context(config, context);
  } else if (kind != "none") {
    if (factor)
      interpolate(config, *factor);
    else
      extend_context(config, context);
  }
  if (context <= usable_context(config)) return;
  throw Error(concat("a context of ", context, " tokens, but the model has ",
                     usable_context(config), " (", describe_rope(config), ")"),
              Fault::usage, "--rope-scaling linear extends it by Position Interpolation");
}

std::string describe_rope(const LlamaConfig& config) {
  const RopeScaling& s = config.rope_scaling;
  if (s.kind == Kind::none)
    return concat("rope unscaled, ", config.max_position_embeddings, " positions");
  return concat("rope ", s.kind == Kind::linear ? "linear" : "llama3", ", factor ", s.factor, ", ",
                original_context(config), " -> ", usable_context(config), " positions");
}

namespace {
constexpr uint64_t kHeadValues = 1024;  // of each tensor; a whole number of blocks of any type

std::vector<float> first_values(const TensorSource& weights, const TensorEntry& entry) {
  const StoredLayout& layout = layout_of(entry.type);
  std::vector<float> values(std::min(entry.count, kHeadValues));
  std::vector<std::byte> bytes(values.size() / layout.block * layout.block_bytes);
  weights.read_bytes(entry, 0, bytes);
  to_f32(entry.type, bytes.data(), values.size(), values.data());
  return values;
}
}  // namespace

std::string fingerprint(const TensorSource& weights) {
  std::map<std::string, std::vector<float>> heads;
  for (const TensorEntry& entry : weights.entries())
    if (converts_to_f32(entry.type) && !entry.name.ends_with("inv_freq"))
      heads[entry.name + shape_text(entry.shape)] = first_values(weights, entry);
  // A folder may have the head of a tied model or not.
  if (const TensorEntry* head = weights.find("lm_head.weight")) {
    const auto found = heads.find(head->name + shape_text(head->shape));
    const auto tied = heads.find("model.embed_tokens.weight" + shape_text(head->shape));
    if (found != heads.end() && tied != heads.end() && found->second == tied->second)
      heads.erase(found);
  }
  Sha256 hash;
  for (const auto& [name, values] : heads) {
    hash.update(name);
    hash.update(values.data(), values.size() * sizeof(float));
  }
  return hash.hex();
}

std::string adapter_digest(const fs::path& adapter) {
  return sha256_hex(sha256_file(adapter / "adapter_config.json") +
                    fingerprint(*open_safetensors(adapter, "adapter_model")));
}

fs::path part_of_run(const fs::path& path, const std::string& part, const std::string& file) {
  for (const fs::path& folder : {path, path / part, path / "last" / part})
    if (fs::exists(folder / file)) return folder;
  return path;
}

namespace {
bool has_weights(const fs::path& folder) {
  return fs::exists(folder / "model.safetensors") ||
         fs::exists(folder / "model.safetensors.index.json");
}

// A repository of the hub's cache: the snapshot that its main branch stands at.
fs::path snapshot_of(const fs::path& path) {
  const fs::path main = path / "refs" / "main";
  if (!fs::is_regular_file(main)) return path;
  std::string revision = read_whole_file(main, 4096);
  while (!revision.empty() && (revision.back() == '\n' || revision.back() == '\r'))
    revision.pop_back();
  const bool plain = revision.find_first_not_of("0123456789abcdef") == std::string::npos;
  return plain && fs::is_directory(path / "snapshots" / revision) ? path / "snapshots" / revision
                                                                  : path;
}

fs::path base_of_adapter(const fs::path& adapter) {
  const std::string named = read_adapter_config(adapter).base_model_name_or_path;
  const auto note = read_longctx(adapter);
  for (const std::string& place : {note ? note->base_path : "", named})
    if (!place.empty() && fs::exists(place)) return part_of_run(place, "model", "config.json");
  throw Error(concat(adapter.string(), ": an adapter of \"", named, "\"",
                     note && !note->base_path.empty() ? " (" + note->base_path + ")" : "",
                     ", which is not there"),
              Fault::usage, "--model BASE --adapter " + adapter.string());
}
}  // namespace

ModelPlace find_model(const fs::path& path) {
  if (!fs::is_directory(path)) return {path, {}};
  const fs::path place = snapshot_of(path);
  const fs::path model = part_of_run(place, "model", "config.json");
  const fs::path adapter = part_of_run(place, "adapter", "adapter_config.json");
  const bool is_adapter = fs::exists(adapter / "adapter_config.json");
  if (!is_adapter || (fs::exists(model / "config.json") && has_weights(model))) {
    if (is_adapter && adapter == model)
      log_warning(model.string(), ": has an adapter beside the model's weights, which is not used");
    return {model, {}};
  }
  return {base_of_adapter(adapter), adapter};
}

fs::path model_path(const Options& options) {
  CHECK_AS(Fault::usage, options.has("model.path"), "--model is needed: a folder or a .gguf file");
  return find_model(options.get<fs::path>("model.path")).base;
}

fs::path adapter_path(const Options& options, const std::string& key) {
  const auto path = options.get<fs::path>(key);
  CHECK_AS(Fault::bad_file, !fs::is_regular_file(path), path.string(),
           ": an adapter is a folder of PEFT, with adapter_config.json and "
           "adapter_model.safetensors; this is a file");
  return part_of_run(snapshot_of(path), "adapter", "adapter_config.json");
}

void check_base(const fs::path& adapter, const std::optional<LongContextNote>& note,
                const std::string& base_fingerprint, const fs::path& base) {
  if (note && !note->base_sha256.empty() && note->base_sha256 != base_fingerprint)
    log_warning(adapter.string(), ": was trained on other weights than ", base.string());
}

void tell_of_adapter(const fs::path& adapter, const AdapterConfig& config, const fs::path& base) {
  if (!config.revision.empty() && config.revision != "main")
    log_warning(adapter.string(), ": is for the revision ", config.revision, " of ",
                config.base_model_name_or_path, ", which cannot be checked here");
  // Trainers put the tokenizer that they used beside an adapter, at times with more tokens or
  // another chat template.
  if (!has_tokenizer(adapter) || !has_tokenizer(base)) return;
  try {
    const auto own = load_tokenizer(adapter), taken = load_tokenizer(base);
    const bool tokens = own->hash() != taken->hash();
    if (tokens || own->parts().chat_template != taken->parts().chat_template)
      log_warning(adapter.string(), ": its own tokenizer has ",
                  tokens ? "other tokens" : "another chat template", " than that of ",
                  base.string(), ", which is taken");
  } catch (const Error& error) {
    log_warning(adapter.string(),
                ": its own tokenizer is not taken, nor compared with the base's: ", error.what());
  }
}

OpenedModel open_model(const Options& options, int64_t context) {
  OpenedModel result;
  CHECK_AS(Fault::usage, options.has("model.path"), "--model is needed: a folder or a .gguf file");
  const ModelPlace place = find_model(options.get<fs::path>("model.path"));
  result.path = place.base;
  fs::path adapter = place.adapter;
  if (options.has("model.adapter")) {
    CHECK_AS(Fault::usage, adapter.empty(), "--adapter: --model ",
             options.get<fs::path>("model.path").string(),
             " is a base with an adapter already: ", place.base.string(), " with ",
             adapter.string());
    adapter = adapter_path(options, "model.adapter");
  }
  for (const fs::path& folder : {result.path, adapter}) require_whole(folder);
  LlamaCheckpoint checkpoint = open_llama_checkpoint(result.path);
  for (const std::string& note : checkpoint.notes) log_warning(note);
  std::optional<LongContextNote> note;
  if (!adapter.empty()) note = read_longctx(adapter);
  // Nothing says how far: the model's own context is enough.
  if (context == 0 && options.get<std::string>("context.rope_scaling") == "linear" &&
      !rope_factor(options))
    options.tell_idle("context.rope_scaling", "without --rope-factor: no context is asked for");
  apply_rope_options(checkpoint.config, options, context, false, note);
  require_same_model(checkpoint.config, checkpoint.weights.get(), adapter, "adapter");
  LlamaLoadOptions held = held_weights(options, checkpoint.weights.get());
  held.device = device_of(options);
  auto model = load_llama(checkpoint, held);
  result.weights = held_name(held);
  model->set_compute_type(apply_amp(options, *model));
  result.positions = describe_rope(checkpoint.config);
  result.eos_ids = checkpoint.config.eos_token_ids;
  if (!adapter.empty()) {
    check_base(adapter, note, fingerprint(*checkpoint.weights), result.path);
    const AdapterConfig config = load_adapter(*model, adapter);
    tell_of_adapter(adapter, config, result.path);
  }
  set_trainable(*model, [](const std::string&) { return false; });
  log_info(result.path.string(), adapter.empty() ? "" : " + " + adapter.string(), ": ",
           element_count(*model), " parameters, weights ", describe_held(*checkpoint.weights, held),
           ", ", result.positions);
  result.model = std::move(model);
  checkpoint = {};  // a GGUF file's tokens are text by text
  release_cached_memory();
  return result;
}

bool has_tokenizer(const fs::path& model) {
  if (fs::is_directory(model))
    return fs::exists(model / "tokenizer.json") || fs::exists(model / "tokenizer.model");
  return GgufFile(model).has("tokenizer.ggml.model");
}

std::string tokenizer_hash(const fs::path& path) {
  if (!has_tokenizer(path)) return "";
  try {
    return load_tokenizer(path)->hash();
  } catch (const Error& error) {
    log_warning("the tokenizer cannot be read, so whose ids the data has is not checked: ",
                error.what());
    return "";
  }
}

std::unique_ptr<Tokenizer> open_tokenizer(const fs::path& path) {
  auto tokenizer = load_tokenizer(path);
  for (const std::string& note : tokenizer->parts().notes) log_warning(note);
  return tokenizer;
}

std::unique_ptr<Tokenizer> open_tokenizer(const fs::path& path, int64_t vocabulary) {
  auto tokenizer = open_tokenizer(path);
  if (tokenizer->vocab_size() > vocabulary)
    throw Error(concat(path.string(), ": the tokenizer has ", tokenizer->vocab_size(),
                       " tokens, the model ", vocabulary, "; the first beyond it: ", vocabulary,
                       " '", tokenizer->token_text(static_cast<int32_t>(vocabulary)), "'"),
                Fault::bad_file, "take out the files that add tokens, or widen the embedding");
  return tokenizer;
}

std::unique_ptr<Tokenizer> open_tokenizer(const Options& options, int64_t vocabulary) {
  return open_tokenizer(model_path(options), vocabulary);
}

std::unique_ptr<Tokenizer> open_tokenizer_of_rows(const Options& options, int64_t vocabulary) {
  auto tokenizer = open_tokenizer(options, vocabulary);
  const int64_t tokens = tokenizer->vocab_size();
  if (tokens == vocabulary) return tokenizer;
  log_info("the model has ", vocabulary - tokens, " rows without a token: should one be drawn, ",
           "its text is [PAD", tokens, "] and the like");
  TokenizerParts parts = tokenizer->parts();
  add_padding(parts, vocabulary);
  return make_tokenizer(std::move(parts));
}

}  // namespace mullion
