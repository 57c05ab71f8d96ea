// tool_llama info: what a file or folder holds, as far as its headers say.
#include <cstdio>
#include <map>
#include <set>

#include "apps/llama/model_options.h"
#include "apps/llama/tool_verbs.h"
#include "apps/program/log.h"
#include "apps/run/run_checkpoint.h"
#include "data/chat_template.h"
#include "tensor/io/safetensors.h"
#include "tensor/words.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

std::string mib(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / 1048576);
  return text;
}

std::string template_name(const Tokenizer& tokenizer) {
  const std::string& jinja = tokenizer.parts().chat_template;
  if (jinja.empty()) return "none";
  const std::optional<OwnTemplate> own =
      read_own_template(jinja, tokenizer.bos() ? tokenizer.token_text(*tokenizer.bos()) : "");
  return own ? name_of(own->format) : "unknown";
}

// The lines of the table and the fields of the JSON, together.
class Report {
 public:
  explicit Report(const Options& options) : options_(options) {}
  void line(const std::string& name, const std::string& text) {
    std::string padded = name;
    padded.resize(std::max<size_t>(padded.size() + 1, 15), ' ');
    print_result(options_, padded + text);
  }
  JsonObject json;

 private:
  const Options& options_;
};

void report_types(Report& report, const TensorSource& weights) {
  struct Sum {
    uint64_t tensors = 0, elements = 0, bytes = 0;
  };
  std::map<std::string, Sum> sums;
  uint64_t elements = 0, bytes = 0;
  for (const TensorEntry& entry : weights.entries()) {
    Sum& sum = sums[std::string(name_of(entry.type))];
    ++sum.tensors;
    sum.elements += entry.count;
    sum.bytes += entry.bytes;
    elements += entry.count;
    bytes += entry.bytes;
  }
  JsonObject types;
  for (const auto& [name, sum] : sums)
    types.set(name, JsonObject()
                        .set("tensors", sum.tensors)
                        .set("elements", sum.elements)
                        .set("bytes", sum.bytes));
  report.line("parameters",
              concat(elements, " in ", weights.entries().size(), " tensors, ", mib(bytes)));
  report.line("types", joined(sums, "; ", [](const auto& s) {
                return concat(s.second.tensors, " ", s.first, " (", mib(s.second.bytes), ")");
              }));
  report.json.set("parameters", elements).set("bytes", bytes).set("types", types);
}

void report_shape(Report& report, const LlamaConfig& c) {
  report.line("architecture", concat("llama, ", c.num_hidden_layers, " layers of width ",
                                     c.hidden_size, ", ", c.num_attention_heads, " heads and ",
                                     c.num_key_value_heads, " key-value heads of ", c.head_dim,
                                     ", MLP ", c.intermediate_size, ", vocabulary ", c.vocab_size,
                                     c.tie_word_embeddings ? ", head tied to the embedding" : ""));
  report.line("context",
              concat(usable_context(c), " tokens; ", describe_rope(c), ", base ", c.rope_theta));
  report.json.set("architecture", "llama").set("layers", c.num_hidden_layers);
  report.json.set("hidden_size", c.hidden_size).set("heads", c.num_attention_heads);
  report.json.set("kv_heads", c.num_key_value_heads).set("head_dim", c.head_dim);
  report.json.set("intermediate_size", c.intermediate_size).set("vocab_size", c.vocab_size);
  report.json.set("tied", c.tie_word_embeddings).set("context", usable_context(c));
  report.json.set("rope", describe_rope(c)).set("rope_theta", c.rope_theta);
}

// Keys and values in f32 and in bf16, at a few lengths up to the context.
void report_cache(Report& report, const LlamaConfig& c) {
  const auto token = static_cast<uint64_t>(2 * c.num_hidden_layers * c.num_key_value_heads *
                                           c.head_dim * size_of(DType::f32));
  std::vector<JsonObject> list;
  std::string text;
  const int64_t context = usable_context(c);
  for (const int64_t tokens :
       std::set<int64_t>{std::min<int64_t>(2048, context), (context + 1) / 2, context}) {
    const uint64_t bytes = token * static_cast<uint64_t>(tokens);
    if (!text.empty()) text += "; ";
    text += concat(tokens, " tokens ", mib(bytes));
    list.push_back(JsonObject().set("tokens", tokens).set("f32", bytes).set("bf16", bytes / 2));
  }
  report.line("cache", concat(text, " in f32, half of it in bf16"));
  report.json.set("cache", list);
}

void report_tokenizer(Report& report, const fs::path& path) {
  if (tokenizer_hash(path).empty()) {
    report.line("tokenizer", "none that can be read");
    report.json.set_null("tokenizer");
    return;
  }
  const auto tokenizer = load_tokenizer(path);
  const TokenizerParts& parts = tokenizer->parts();
  const auto token = [&](const std::optional<int32_t>& id) {
    return id ? concat(*id, " ", tokenizer->token_text(*id)) : std::string("none");
  };
  const std::string ends = joined(tokenizer->eos_ids(), ", ", token);
  const std::string kind =
      parts.model == "llama" ? std::string("SentencePiece BPE") : "byte-level BPE, " + parts.pre;
  report.line("tokenizer", concat(kind, ", ", tokenizer->vocab_size(), " tokens; BOS ",
                                  token(parts.bos), tokenizer->add_bos() ? " first" : " not put in",
                                  "; ends ", ends.empty() ? "none" : ends));
  const std::string name = template_name(*tokenizer);
  report.line("template", name);
  JsonObject json;
  json.set("kind", parts.model).set("pre", parts.pre).set("tokens", tokenizer->vocab_size());
  if (parts.bos) json.set("bos", *parts.bos);
  json.set("eos", tokenizer->eos_ids()).set("add_bos", tokenizer->add_bos());
  json.set("sha256", tokenizer->hash());
  report.json.set("tokenizer", json).set("template", name);
}

void report_adapter(Report& report, const fs::path& adapter) {
  const AdapterConfig config = read_adapter_config(adapter);
  const auto source = open_safetensors(adapter, "adapter_model");
  const std::string saved = joined(config.modules_to_save);
  uint64_t elements = 0;
  for (const TensorEntry& entry : source->entries()) elements += entry.count;
  report.line("adapter",
              concat(adapter.string(), ": rank ", config.r, ", alpha ", config.lora_alpha,
                     config.use_rslora ? " (rslora)" : "", " on ", joined(config.target_modules),
                     saved.empty() ? "" : "; whole: " + saved, "; ", elements, " parameters in ",
                     source->entries().size(), " tensors"));
  JsonObject json;
  json.set("path", adapter.string()).set("rank", config.r).set("alpha", config.lora_alpha);
  json.set("targets", config.target_modules).set("modules_to_save", config.modules_to_save);
  json.set("parameters", elements).set("base", config.base_model_name_or_path);
  if (const auto note = read_longctx(adapter)) {
    report.line("", concat("trained under ", note->attention_preset, " attention at ",
                           note->max_position_embeddings, " positions"));
    json.set("attention", note->attention_preset);
    json.set("max_position_embeddings", note->max_position_embeddings);
  }
  report.json.set("adapter", json);
}

std::string kind_of(const LlamaCheckpoint& checkpoint) {
  if (checkpoint.gguf) return concat("GGUF, version ", checkpoint.gguf->version());
  return "Hugging Face folder";
}

}  // namespace

OptionTable info_table() {
  OptionTable table("tool_llama info", "Says what a model's file or folder, or an adapter, holds");
  table.add_optional<fs::path>("model.path", "MODEL",
                               "Hugging Face folder, .gguf file, adapter, or a run's folder");
  table.add_optional<fs::path>("model.named", "-m,--model", "the same, as other verbs take it");
  table.add_common_without(true, true);
  return table;
}

Outcome model_info(const Options& options) {
  CHECK_AS(Fault::usage, options.has("model.path") != options.has("model.named"),
           options.has("model.path") ? "MODEL and --model: only one of them"
                                     : "MODEL is required: a folder or a .gguf file");
  const auto path = options.get<fs::path>(options.has("model.path") ? "model.path" : "model.named");
  Report report(options);
  const fs::path adapter = part_of_run(path, "adapter", "adapter_config.json");
  const bool is_adapter = fs::exists(adapter / "adapter_config.json");
  ModelPlace place{path, {}};
  try {
    place = find_model(path);
  } catch (const Error& error) {  // an adapter can be described where its base is not
    if (!is_adapter) throw;
    log_warning(error.what());
    report_adapter(report, adapter);
    report.json.set_null("base");
    return report.json;
  }
  for (const fs::path& folder : {place.base, place.adapter}) require_whole(folder);
  LlamaCheckpoint checkpoint = open_llama_checkpoint(place.base);
  for (const std::string& note : checkpoint.notes) log_warning(note);
  report.line("file", concat(place.base.string(), " (", kind_of(checkpoint), ")"));
  report.json.set("path", place.base.string()).set("kind", kind_of(checkpoint));
  report_shape(report, checkpoint.config);
  report_types(report, *checkpoint.weights);
  report_cache(report, checkpoint.config);
  report_tokenizer(report, place.base);
  if (!place.adapter.empty()) report_adapter(report, place.adapter);
  return report.json;
}

}  // namespace mullion
