// load_tokenizer: which file of a folder to read, and what the files beside it add. For BOS and
// EOS the order of authority is: the post-processor of tokenizer.json, add_bos_token of
// tokenizer_config.json, the default of the kind.
#include <nlohmann/json.hpp>

#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/gguf.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

constexpr uint64_t kMaxFileBytes = 64 << 20;

std::optional<int32_t> find_token(const TokenizerParts& parts, const std::string& text) {
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    if (parts.tokens[id] == text) return static_cast<int32_t>(id);
  }
  return std::nullopt;
}

// A folder's tokenizer while its files are read one after another.
class Folder {
 public:
  explicit Folder(path root) : root_(std::move(root)) {}

  TokenizerParts parts() {
    read_vocabulary();
    if (auto config = read("tokenizer_config.json")) read_tokenizer_config(*config);
    if (auto specials = read("special_tokens_map.json")) read_special_names(*specials);
    for (const char* name : {"generation_config.json", "config.json"}) {
      if (auto config = read(name)) read_ids(*config, name);
    }
    if (exists(root_ / "chat_template.jinja")) {
      parts_.chat_template = read_whole_file(root_ / "chat_template.jinja", kMaxFileBytes);
    }
    return std::move(parts_);
  }

 private:
  std::string name(const char* file) const { return (root_ / file).string(); }

  std::optional<json> read(const char* file) const {
    if (!exists(root_ / file)) return std::nullopt;
    json root = read_json_file(root_ / file);
    CHECK_AS(Fault::bad_file, root.is_object(), name(file), ": not a JSON object");
    return root;
  }

  void read_vocabulary() {
    const path json_file = root_ / "tokenizer.json", model_file = root_ / "tokenizer.model";
    const bool has_model = exists(model_file);
    CHECK_AS(Fault::bad_file, has_model || exists(json_file), root_.string(),
             ": neither tokenizer.json nor tokenizer.model");
    if (!exists(json_file)) {
      parts_ = read_model(model_file);
      return;
    }
    try {
      std::string text = read_whole_file(json_file, kMaxFileBytes);
      parts_ = parse_tokenizer_json(text, json_file.string());
    } catch (const Error&) {
      if (!has_model) throw;
      parts_ = read_model(model_file);
      return;
    }
    if (has_model && parts_.model == "llama") take_scores(model_file);
  }

  static TokenizerParts read_model(const path& file) {
    return parse_sentencepiece_model(read_whole_file(file, kMaxFileBytes), file.string());
  }

  // tokenizer.json is made from tokenizer.model and has lost the scores; where both are the same
  // vocabulary, the scores take the place of the merges made from them.
  void take_scores(const path& model_file) {
    TokenizerParts model = read_model(model_file);
    if (model.tokens != parts_.tokens) return;
    parts_.scores = std::move(model.scores);
    parts_.merges.clear();
  }

  void read_tokenizer_config(const json& config) {
    const std::string file = name("tokenizer_config.json");
    if (const json* added = find_field(config, file, "added_tokens_decoder")) {
      read_added(*added, file);
    }
    read_special_names(config);
    if (const json* flag = find_field(config, file, "add_bos_token"); flag && !parts_.add_bos) {
      parts_.add_bos = get_bool(config, file, "add_bos_token");
    }
    if (!parts_.add_eos) parts_.add_eos = get_bool_or(config, file, "add_eos_token", false);
    if (const json* chat = find_field(config, file, "chat_template"); chat && chat->is_string()) {
      parts_.chat_template = chat->get<std::string>();
    }
  }

  // {"32000": {"content": "<pad>", "special": true}, ...}: tokens beyond those of tokenizer.model.
  void read_added(const json& added, const std::string& file) {
    CHECK_AS(Fault::bad_file, added.is_object(), file, ": added_tokens_decoder is not an object");
    std::vector<const json*> fresh(added.size());
    const size_t size = parts_.tokens.size();
    for (const auto& [key, token] : added.items()) {
      bool digits = !key.empty() && key.size() <= 7 &&
                    key.find_first_not_of("0123456789") == std::string::npos;
      CHECK_AS(Fault::bad_file, digits, file, ": added_tokens_decoder: '", key, "' is not an id");
      size_t id = std::stoul(key);
      if (id < size) continue;
      CHECK_AS(Fault::bad_file, id - size < fresh.size(), file, ": added_tokens_decoder: id ", id,
               " leaves a gap after ", size, " tokens");
      fresh[id - size] = &token;
    }
    for (const json* token : fresh) {
      if (!token) break;
      parts_.tokens.push_back(get_string(*token, file, "content"));
      if (parts_.model == "llama") parts_.scores.push_back(0);
      bool special = get_bool_or(*token, file, "special", false);
      parts_.types.push_back(special ? TokenType::control : TokenType::user_defined);
    }
  }

  // "bos_token": "<s>" or {"content": "<s>", ...}. What is known already stays.
  void read_special_names(const json& config) {
    auto take = [&](const char* key, std::optional<int32_t>& slot) {
      auto field = config.find(key);
      if (slot || field == config.end()) return;
      if (field->is_string()) slot = find_token(parts_, field->get<std::string>());
      if (!field->is_object()) return;
      auto content = field->find("content");
      if (content == field->end() || !content->is_string()) return;
      slot = find_token(parts_, content->get<std::string>());
    };
    take("bos_token", parts_.bos);
    take("eos_token", parts_.eos);
    take("pad_token", parts_.pad);
    if (parts_.model == "gpt2") take("unk_token", parts_.unk);
  }

  // "eos_token_id" is one id or a list of them.
  void read_ids(const json& config, const char* file) {
    auto id = [&](const json& value, const char* key) {
      return static_cast<int32_t>(as_uint(value, name(file), key, INT32_MAX));
    };
    if (auto* bos = find_field(config, name(file), "bos_token_id"); bos && !parts_.bos) {
      parts_.bos = id(*bos, "bos_token_id");
    }
    const json* eos = find_field(config, name(file), "eos_token_id");
    if (!eos || !parts_.more_eos.empty()) return;
    if (!eos->is_array()) parts_.more_eos.push_back(id(*eos, "eos_token_id"));
    for (size_t i = 0; eos->is_array() && i < eos->size(); ++i) {
      parts_.more_eos.push_back(id((*eos)[i], "eos_token_id"));
    }
    if (!parts_.eos && !parts_.more_eos.empty()) parts_.eos = parts_.more_eos[0];
  }

  path root_;
  TokenizerParts parts_;
};

TokenizerParts read_parts(const path& file) {
  if (is_directory(file)) return Folder(file).parts();
  if (file.extension() == ".gguf") return tokenizer_parts(GgufFile(file));
  std::string bytes = read_whole_file(file, kMaxFileBytes);
  return file.extension() == ".json" ? parse_tokenizer_json(bytes, file.string())
                                     : parse_sentencepiece_model(bytes, file.string());
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const path& file) {
  TokenizerParts parts = read_parts(file);
  try {
    return make_tokenizer(std::move(parts));
  } catch (const Error& error) {
    throw error.in(file.string());
  }
}

}  // namespace mullion
