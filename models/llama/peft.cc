// Keys of PEFT adapters (formats.md 3.2), and the side file.
#include "models/llama/peft.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/json.h"

namespace mullion {

namespace {
using Json = nlohmann::json;
constexpr std::string_view kPrefix = "base_model.model.";
constexpr uint64_t kMaxContext = uint64_t{1} << 31, kMaxSize = uint64_t{1} << 31;

bool drop_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) return false;
  text.remove_suffix(suffix.size());
  return true;
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

void write_longctx(const std::filesystem::path& folder, const LongContextNote& note) {
  Json json = {{"rope_scaling", to_json(note.rope_scaling)},
               {"max_position_embeddings", note.max_position_embeddings},
               {"attention",
                {{"preset", note.attention_preset}, {"group", note.group}, {"sinks", note.sinks}}},
               {"tokenizer_sha256", note.tokenizer_sha256},
               {"base_values_sha256", note.base_sha256},
               {"base_path", note.base_path},
               {"trained", note.trained}};
  if (!note.chat_template.empty()) json["template"] = note.chat_template;
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
  note.base_sha256 = get_string_or(json, file, "base_values_sha256", "");
  note.base_path = get_string_or(json, file, "base_path", "");
  note.chat_template = get_string_or(json, file, "template", "");
  note.trained = get_strings(json, file, "trained");
  return note;
}

}  // namespace mullion
