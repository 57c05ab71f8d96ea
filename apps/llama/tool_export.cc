// tool_llama export: a model or an adapter in the formats of others; quantize: a GGUF file alone.
#include <algorithm>
#include <map>

#include "apps/llama/adapter_card.h"
#include "apps/llama/model_options.h"
#include "apps/llama/model_out.h"
#include "apps/llama/text_perplexity.h"
#include "apps/llama/tool_verbs.h"
#include "apps/program/log.h"
#include "models/llama/export_adapter.h"
#include "models/llama/export_gguf.h"
#include "tensor/io/atomic_folder.h"
#include "tensor/io/file_place.h"
#include "tensor/words.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

// What --type takes, by the names that files have for them.
constexpr StoredType kTypes[] = {StoredType::f32,  StoredType::f16,  StoredType::bf16,
                                 StoredType::q8_0, StoredType::q4_0, StoredType::q4_1,
                                 StoredType::q5_0, StoredType::q5_1, StoredType::q4_k,
                                 StoredType::q5_k, StoredType::q6_k};

std::string lower_name(StoredType type) {
  std::string name(name_of(type));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return name;
}

std::vector<std::string> type_names(std::vector<std::string> names) {
  for (const StoredType type : kTypes) names.push_back(lower_name(type));
  return names;
}

StoredType type_named(const std::string& said, DType otherwise) {
  for (const StoredType type : kTypes)
    if (lower_name(type) == said) return type;
  return stored_type_of(otherwise);
}

// Before the work, and by --dry-run too.
void check_new_file(const fs::path& output) {
  CHECK_AS(Fault::usage, !fs::exists(fs::symlink_status(output)), output.string(),
           ": exists already");
  check_file_place(output);
}

// Quantising what is quantised loses twice.
void warn_of_blocks(const ModelOut& m, StoredType type) {
  if (layout_of(type).block == 1) return;
  std::map<StoredType, size_t> matrices;
  for (const TensorEntry& entry : m.checkpoint.weights->entries())
    if (layout_of(entry.type).block > 1) ++matrices[entry.type];
  const auto most =
      std::max_element(matrices.begin(), matrices.end(),
                       [](const auto& a, const auto& b) { return a.second < b.second; });
  if (most != matrices.end() && most->first != type)
    log_warning(m.base.string(), ": most of its matrices are ", name_of(most->first),
                " already; what that lost stays lost, and ", name_of(type), " loses more");
}

std::unique_ptr<Tokenizer> tokenizer_for(const ModelOut& m) {
  return tokenizer_hash(m.base).empty() ? nullptr : open_tokenizer(m.base, m.config.vocab_size);
}

// Perplexity of the text before and after, into result and sentence.
std::string cost_of(const Options& options, double before, const fs::path& written,
                    const Tokenizer& tokenizer, const std::vector<int32_t>& ids, int64_t context,
                    JsonObject& result) {
  const auto model = load_llama(open_llama_checkpoint(written));
  const double after = text_perplexity(*model, tokenizer, ids, context).perplexity;
  result.set("check", options.get<std::string>("output.check"));
  result.set("perplexity_before", before).set("perplexity_after", after);
  return concat("; perplexity ", before, " -> ", after);
}

double perplexity_before(const ModelOut& m, const Tokenizer& tokenizer,
                         const std::vector<int32_t>& ids, int64_t context) {
  if (m.model) return text_perplexity(*m.model, tokenizer, ids, context).perplexity;
  LlamaCheckpoint checkpoint = open_llama_checkpoint(m.base);
  checkpoint.config = m.config;
  return text_perplexity(*load_llama(checkpoint), tokenizer, ids, context).perplexity;
}

// What would be written: how many tensors of which types, and their bytes.
void print_gguf_plan(const Options& options, const LlamaConfig& config, StoredType type,
                     const fs::path& output, JsonObject& result) {
  std::map<StoredType, std::pair<size_t, uint64_t>> types;  // tensors, bytes
  uint64_t bytes = 0;
  for (const GgufSpec& spec : gguf_tensors(config, type)) {
    uint64_t count = 1;
    for (const int64_t d : spec.shape) count *= static_cast<uint64_t>(d);
    const uint64_t size =
        stored_bytes(spec.type, count, static_cast<uint64_t>(spec.shape.back()), spec.name);
    ++types[spec.type].first;
    types[spec.type].second += size;
    bytes += size;
  }
  const std::string text = joined(types, ", ", [](const auto& t) {
    return concat(t.second.first, " in ", name_of(t.first), " (", t.second.second, " bytes)");
  });
  print_result(options, concat(output.string(), ": ", name_of(type), ", ", describe_rope(config),
                               ", tensors of ", bytes, " bytes would be written: ", text));
  result.set("tensor_bytes", bytes);
}

JsonObject export_gguf(const Options& options, ModelOut& m, const fs::path& output) {
  const StoredType type = type_named(options.get<std::string>("output.type"), m.config.dtype);
  warn_of_blocks(m, type);
  const auto tokenizer = tokenizer_for(m);
  JsonObject result;
  result.set("output", output.string()).set("format", "gguf");
  result.set("type", std::string(name_of(type))).set("rope", describe_rope(m.config));
  std::vector<int32_t> ids;
  const int64_t context = std::min<int64_t>(512, usable_context(m.config));
  if (options.has("output.check")) {
    CHECK_AS(Fault::usage, tokenizer, "--check: the model has no tokenizer");
    ids = text_ids(*tokenizer, options.get<fs::path>("output.check"));
  }
  if (options.dry_run) {
    print_gguf_plan(options, m.config, type, output, result);
    return result;
  }
  const double before = ids.empty() ? 0 : perplexity_before(m, *tokenizer, ids, context);
  std::vector<float> logits;
  if (options.get<bool>("output.verify")) logits = probe_logits_of(m);
  const fs::path named = fs::weakly_canonical(fs::absolute(m.base));
  const auto notes = write_gguf(output, m.config, m.weights(), tokenizer.get(),
                                {.type = type, .name = named.stem().string()});
  for (const std::string& note : notes) log_warning(note);
  m.merged.reset();
  m.model.reset();
  std::string said;
  try {
    if (!logits.empty()) said += check_written(logits, output, type, output.string(), result);
    if (!ids.empty()) said += cost_of(options, before, output, *tokenizer, ids, context, result);
  } catch (...) {
    std::error_code ignored;
    fs::remove(output, ignored);
    throw;
  }
  const auto bytes = fs::file_size(output);
  print_result(options, concat(output.string(), ": ", name_of(type), ", ", bytes, " bytes", said));
  return result.set("bytes", bytes);
}

// What an adapter's file has no field for.
void warn_of_rope(const ModelOut& m) {
  const LlamaConfig base = open_llama_checkpoint(m.base).config;
  if (base.rope_scaling == m.config.rope_scaling) return;
  log_warning("the adapter was trained with ", describe_rope(m.config),
              ", which a GGUF adapter cannot say: run llama.cpp with --rope-scaling linear "
              "--rope-scale ",
              m.config.rope_scaling.factor, " -c ", usable_context(m.config));
}

JsonObject export_adapter(const Options& options, const ModelOut& m, const fs::path& output,
                          const std::string& format) {
  CHECK_AS(Fault::usage, !m.adapter.empty(), "--format ", format,
           ": no adapter: --adapter FOLDER, or a run with one as --model");
  JsonObject result;
  result.set("output", output.string()).set("format", format);
  if (format == "gguf-lora") {
    warn_of_rope(m);
    check_gguf_adapter(m.checkpoint.config, m.adapter);
    if (options.dry_run) {
      print_result(options, output.string() + ": " + m.adapter.string() + " would be written");
      return result;
    }
    write_gguf_adapter(output, m.checkpoint.config, m.adapter);
  } else {
    AtomicFolder folder(output);
    if (options.dry_run) {
      print_result(options, output.string() + ": " + m.adapter.string() + " would be written");
      return result;
    }
    write_peft_adapter(folder.place(), m.checkpoint.config, m.adapter);
    for (const char* name : {"README.md", "longctx.json"})
      if (fs::exists(m.adapter / name)) fs::copy_file(m.adapter / name, folder.place() / name);
    folder.commit();
  }
  print_result(options, concat(output.string(), ": ", m.adapter.string(), " as ", format));
  return result;
}

}  // namespace

OptionTable export_table() {
  OptionTable table("tool_llama export", "Writes a model or an adapter in another format");
  add_model_out_options(table);
  table
      .add_optional<std::string>("output.format", "--format",
                                 "hf: a Hugging Face folder; gguf: a file for llama.cpp; both with "
                                 "the adapter merged. gguf-lora, peft: the adapter alone")
      .one_of({"hf", "gguf", "gguf-lora", "peft"})
      .required();
  table
      .add_optional<fs::path>("output.path", "-o,--output",
                              "file or folder to write; nothing may be there yet")
      .required();
  table
      .add("output.type", "--type", "auto",
           "type of the matrices; auto: the base's, f32 for a quantised one; hf: f32, f16, bf16")
      .one_of(type_names({"auto"}));
  table.add_optional<fs::path>("output.check", "--check",
                               "gguf: a text whose perplexity is printed before and after");
  add_hf_folder_options(table);
  table.at("output.check").only_with("output.format", {"gguf"}).refused_idle();
  table.at("output.shard_size").only_with("output.format", {"hf"});
  for (const char* key : {"output.verify", "context.rope_scaling", "context.rope_factor"})
    table.at(key).only_with("output.format", {"hf", "gguf"});
  return table;
}

OptionTable quantize_table() {
  OptionTable table("tool_llama quantize",
                    "Writes a model as a GGUF file of another type: export --format gguf");
  add_model_out_options(table);
  table.add_optional<fs::path>("output.path", "-o,--output", "file to write; not there yet")
      .required();
  table.add_optional<std::string>("output.type", "--type", "type of the matrices")
      .one_of(type_names({}))
      .required();
  table.add_optional<fs::path>("output.check", "--check",
                               "a text whose perplexity is printed before and after");
  table.add("output.verify", "--verify", true,
            "read what was written back and compare logits before it is kept");
  return table;
}

Outcome export_model(const Options& options) {
  const auto format = options.get<std::string>("output.format");
  const auto type = options.get<std::string>("output.type");
  const fs::path output = options.get<fs::path>("output.path");
  CHECK_AS(Fault::usage, format == "gguf" || type[0] != 'q', "--type ", type, ": --format ", format,
           " has no such blocks; --format gguf has");
  const bool adapter = format == "gguf-lora" || format == "peft";
  CHECK_AS(Fault::usage, !adapter || type == "auto" || type == "f32", "--type ", type,
           ": an adapter's pairs are written in f32");
  const bool folder = format == "hf" || format == "peft";
  folder ? check_folder_place(output) : check_new_file(output);
  ModelOut m = open_model_out(options);
  if (adapter) return export_adapter(options, m, output, format);
  if (format == "hf") return write_folder(options, m, type);
  return export_gguf(options, m, output);
}

Outcome quantize_model(const Options& options) {
  const fs::path output = options.get<fs::path>("output.path");
  check_new_file(output);
  ModelOut m = open_model_out(options);
  return export_gguf(options, m, output);
}

}  // namespace mullion
