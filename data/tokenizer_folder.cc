// A Hugging Face folder: which file of it to read, and what the files beside it add.
// The order of authority, highest first (TokenizerParts::origins says which one spoke):
//   bos, eos, pad      the template of tokenizer.json's post_processor (not where the class makes
//                      its own, tokenizer_class.h), tokenizer_config.json, special_tokens_map.json,
//                      the tokenizer file (tokenizer.model's trainer_spec), the default of a class
//                      that makes its own, generation_config.json, config.json
//   unk                the tokenizer file, which encodes with it; then as above
//   add_bos, add_eos   as transformers 4 has them by the class (read_ends); where no file names
//                      one: the template, tokenizer_config.json, the default of the kind
//   more_eos           all of generation_config.json, else of config.json
// A GGUF file has its own keys for all of them.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "data/tokenizer_class.h"
#include "data/tokenizer_config.h"
#include "data/tokenizer_kinds.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

using nlohmann::json;
using std::filesystem::path;

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
    const auto config = read("tokenizer_config.json"), added = read("added_tokens.json");
    const auto specials = read("special_tokens_map.json");
    if (config) read_added_decoder(*config);
    if (added) read_added_ids(*added);
    append_added();
    read_tokenizer_config(config.value_or(json::object()));
    look_for_added();
    if (specials) read_special_names(*specials, "special_tokens_map.json");
    take_default_names(config.value_or(json::object()));
    for (const char* file : {"generation_config.json", "config.json"}) {
      if (auto ids = read(file)) read_ids(*ids, file);
    }
    if (exists(root_ / "chat_template.jinja")) {
      parts_.chat_template = read_whole_file(root_ / "chat_template.jinja", kMostTokenizerBytes);
    }
    return std::move(parts_);
  }

 private:
  struct Added {
    std::string text, file;
    bool special = false, normalized = false;
  };

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
      std::string text = read_whole_file(json_file, kMostTokenizerBytes);
      parts_ = parse_tokenizer_json(text, json_file.string());
    } catch (const Error& error) {
      if (!has_model) throw;
      // The other file may tokenize otherwise, so it is the user who chooses it.
      throw Error(concat(error.what(), "; tokenizer.model beside it is not taken in its place"),
                  error.fault(),
                  error.hint().empty()
                      ? "without tokenizer.json the folder's tokenizer.model is read"
                      : error.hint());
    }
    if (has_model && parts_.model == "llama") take_scores(model_file);
  }

  static TokenizerParts read_model(const path& file) {
    return parse_sentencepiece_model(read_whole_file(file, kMostTokenizerBytes), file.string());
  }

  // tokenizer.json is made from tokenizer.model and has lost the scores; where both are the same
  // vocabulary, the scores take the place of the merges made from them.
  void take_scores(const path& model_file) {
    TokenizerParts model = read_model(model_file);
    if (model.tokens != parts_.tokens) return;
    parts_.scores = std::move(model.scores);
    parts_.merges.clear();
  }

  void add(size_t id, Added token) {
    const bool later = !exists(root_ / "tokenizer.json") || id >= parts_.tokens.size();
    if (token.normalized && later) normalized_.insert(static_cast<int32_t>(id));
    CHECK_AS(Fault::bad_file, !token.text.empty(), token.file, ": the added token ", id,
             " is empty");
    if (id < parts_.tokens.size()) {
      CHECK_AS(Fault::bad_file, parts_.tokens[id] == token.text, token.file, ": id ", id, " is '",
               token.text, "', in the vocabulary it is '", parts_.tokens[id], "'");
      TokenType& type = parts_.types[id];
      if (type == TokenType::normal || type == TokenType::user_defined)
        type = token.special ? TokenType::control : TokenType::user_defined;
      return;
    }
    auto [known, fresh] = added_.emplace(id, token);
    CHECK_AS(Fault::bad_file, fresh || known->second.text == token.text, token.file, ": id ", id,
             " is '", token.text, "', in ", known->second.file, " it is '", known->second.text,
             "'");
  }

  // tokenizer_config.json: {"32000": {"content": "<pad>", "special": true}, ...}.
  void read_added_decoder(const json& config) {
    const std::string file = name("tokenizer_config.json");
    const json* added = find_field(config, file, "added_tokens_decoder");
    if (!added) return;
    CHECK_AS(Fault::bad_file, added->is_object(), file, ": added_tokens_decoder is not an object");
    for (const auto& [key, token] : added->items()) {
      bool digits = !key.empty() && key.size() <= 7 &&
                    key.find_first_not_of("0123456789") == std::string::npos;
      CHECK_AS(Fault::bad_file, digits, file, ": added_tokens_decoder: '", key, "' is not an id");
      const std::string text = get_string(token, file, "content");
      for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
        CHECK_AS(Fault::bad_file, !get_bool_or(token, file, flag, false), file,
                 ": added_tokens_decoder: '", text, "': ", flag, " is not supported");
      }
      const bool special = get_bool_or(token, file, "special", false);
      add(std::stoul(key), {text, file, special, get_bool_or(token, file, "normalized", !special)});
    }
  }

  // added_tokens.json: {"<|im_start|>": 512, ...}. Special are those that a special role names.
  void read_added_ids(const json& added) {
    const std::string file = name("added_tokens.json");
    const std::vector<std::string> special = special_texts();
    for (const auto& [text, value] : added.items()) {
      const uint64_t id = as_uint(value, file, text.c_str(), INT32_MAX);
      const bool is_special = std::find(special.begin(), special.end(), text) != special.end();
      add(id, {text, file, is_special, !is_special});
    }
  }

  std::vector<std::string> special_texts() const {
    std::vector<std::string> texts;
    for (const char* file : {"tokenizer_config.json", "special_tokens_map.json"}) {
      const auto config = read(file);
      if (!config) continue;
      for (const char* key : {"bos_token", "eos_token", "pad_token", "unk_token"})
        if (auto field = config->find(key); field != config->end()) put_text(*field, texts);
      auto more = config->find("additional_special_tokens");
      if (more == config->end() || !more->is_array()) continue;
      for (const json& token : *more) put_text(token, texts);
    }
    return texts;
  }

  // "<s>" or {"content": "<s>", ...}.
  static void put_text(const json& token, std::vector<std::string>& texts) {
    if (token.is_string()) texts.push_back(token.get<std::string>());
    if (!token.is_object()) return;
    auto content = token.find("content");
    if (content != token.end() && content->is_string())
      texts.push_back(content->get<std::string>());
  }

  // Tokens beyond the vocabulary follow it without a gap.
  void append_added() {
    for (const auto& [id, token] : added_) {
      CHECK_AS(Fault::bad_file, id == parts_.tokens.size(), token.file, ": the added token '",
               token.text, "' has id ", id, ", which leaves a gap after ", parts_.tokens.size(),
               " tokens");
      parts_.tokens.push_back(token.text);
      if (parts_.model == "llama") parts_.scores.push_back(0);
      parts_.types.push_back(token.special ? TokenType::control : TokenType::user_defined);
    }
  }

  // As transformers' fast tokenizers find added tokens: between two of them a text begins anew,
  // with a space in front; those that are normalized are found in what the normalizer made of a
  // text.
  void look_for_added() {
    if (parts_.model != "llama" || parts_.metaspace) return;
    if (!exists(root_ / "tokenizer.json")) parts_.prefix_after_added = true;
    parts_.normalized.insert(parts_.normalized.end(), normalized_.begin(), normalized_.end());
  }

  void read_tokenizer_config(const json& config) {
    const std::string file = name("tokenizer_config.json");
    read_ends(config);
    // As transformers reads tokenizer.model: without "legacy" no space is put after a special
    // token, nor before a text that begins with one.
    if (!exists(root_ / "tokenizer.json") && !get_bool_or(config, file, "legacy", true)) {
      parts_.metaspace = true;
      parts_.prefix_after_control = false;
    }
    read_prefix_space(config);
    if (const json* chat = find_field(config, file, "chat_template"))
      parts_.chat_template = default_chat_template(*chat, file, parts_.notes);
  }

  // The space in front of a text. Without tokenizer.json the class makes its tokenizer by this key;
  // from tokenizer.json's own rule a byte-level one alone is changed by it.
  void read_prefix_space(const json& config) {
    const std::string file = name("tokenizer_config.json");
    const json* field = find_field(config, file, "add_prefix_space");
    if (!field) return;
    const bool value = get_bool(config, file, "add_prefix_space");
    if (parts_.model == "gpt2") {
      CHECK_AS(Fault::bad_file, !value || parts_.pre != "gpt-2", file,
               ": add_prefix_space = true is not supported");
      return;
    }
    if (!exists(root_ / "tokenizer.json"))
      parts_.add_space_prefix = value;
    else if (value != parts_.add_space_prefix)
      parts_.notes.push_back(concat(file, ": add_prefix_space is ", value ? "true" : "false",
                                    ", by which transformers makes a Llama tokenizer anew from "
                                    "tokenizer.model; here tokenizer.json's own rule is followed"));
  }

  // The class that transformers' AutoTokenizer makes; "": no file says.
  std::string tokenizer_class(const json& config) const {
    std::string found = get_string_or(config, name("tokenizer_config.json"), "tokenizer_class", "");
    if (const auto model = read("config.json"); model && found.empty()) {
      const std::string type = get_string_or(*model, name("config.json"), "model_type", "");
      found = get_string_or(*model, name("config.json"), "tokenizer_class",
                            std::string(class_of_model(type)));
    }
    return found.empty() || found.ends_with("Fast") ? found : found + "Fast";
  }

  // What goes in front of a text and behind it. Classes that make their own ends do so by
  // add_bos_token and add_eos_token. Other classes have tokenizer.json's alone; transformers 5
  // follows the two keys there as well, which is said where it makes a difference.
  void read_ends(const json& config) {
    class_ = tokenizer_class(config);
    own_ = own_ends(class_);
    const bool has_json = exists(root_ / "tokenizer.json");
    const auto was = std::pair(parts_.add_bos.value_or(false), parts_.add_eos);
    const bool had_template = parts_.origins.contains("add_bos");
    if (has_json && own_) {
      std::erase_if(parts_.origins, [&](const auto& origin) { return origin.second == kTemplate; });
      parts_.add_bos = own_->add_bos;
      parts_.add_eos = false;
    } else if (has_json && !class_.empty()) {
      parts_.add_bos = parts_.add_bos.value_or(false);
      for (const char* what : {"add_bos", "add_eos"})
        parts_.origins.emplace(what, "tokenizer.json without a post_processor");
    }
    read_special_names(config, "tokenizer_config.json");
    read_policy(config, "add_bos_token", "add_bos", parts_.add_bos.value_or(false),
                [&](bool value) { parts_.add_bos = value; });
    read_policy(config, "add_eos_token", "add_eos", parts_.add_eos,
                [&](bool value) { parts_.add_eos = value; });
    if (had_template && was != std::pair(*parts_.add_bos, parts_.add_eos))
      parts_.notes.push_back(concat(name("tokenizer.json"),
                                    ": its post_processor is not followed: a ", class_,
                                    " makes its own by add_bos_token and add_eos_token"));
  }

  template <typename Set>
  void read_policy(const json& config, const char* key, const char* what, bool now, Set set) {
    const std::string file = name("tokenizer_config.json");
    const bool given = find_field(config, file, key);
    if (!given && !(own_ && config.contains(key)))
      return;  // null: false to a class of its own ends
    const bool value = given && get_bool(config, file, key);
    if (!parts_.origins.contains(what)) {
      parts_.origins[what] = std::string("tokenizer_config.json ") + key;
      set(value);
    } else if (value != now) {
      parts_.notes.push_back(concat(file, ": ", key, " is ", value ? "true" : "false",
                                    ", which the ", parts_.origins[what], " overrules",
                                    class_.empty() ? ""
                                                   : ", as in transformers 4 for a " + class_ +
                                                         "; transformers 5 follows it"));
    }
  }

  // The names that the class has for BOS and EOS, where no file beside tokenizer.json has another
  // and tokenizer_config.json does not say null.
  void take_default_names(const json& config) {
    if (!own_ || !exists(root_ / "tokenizer.json")) return;
    const auto take = [&](const char* key, const char* what, std::string_view text, bool used,
                          std::optional<int32_t>& slot) {
      if (config.contains(key) || parts_.origins.contains(what)) return;
      if (const auto id = find_token(parts_, std::string(text))) {
        slot = id;
        parts_.origins[what] = concat("the default of a ", class_);
        make_special(*id);
        return;
      }
      if (slot) parts_.origins[what] = kTemplate;
      if (used)
        parts_.notes.push_back(concat(root_.string(), ": no ", key, ", and '", text,
                                      "', the default of a ", class_,
                                      ", is not in the vocabulary"));
    };
    take("bos_token", "bos", own_->bos, *parts_.add_bos, parts_.bos);
    take("eos_token", "eos", own_->eos, parts_.add_eos, parts_.eos);
  }

  // "bos_token": "<s>" or {"content": "<s>", ...}. The tokenizer file's own word yields to it,
  // what a file of more authority has said stays.
  void read_special_names(const json& config, const char* file) {
    const auto take = [&](const char* key, const char* what, std::optional<int32_t>& slot) {
      auto field = config.find(key);
      std::vector<std::string> text;
      if (field != config.end()) put_text(*field, text);
      if (text.empty()) return;
      const std::string& now = parts_.origins[what];
      const bool yields =
          now.empty() || (now == "tokenizer.model trainer_spec" && std::string_view(what) != "unk");
      const auto id = find_token(parts_, text[0]);
      if (!id) {
        parts_.notes.push_back(concat(name(file), ": ", key, " '", text[0],
                                      "' is not in the vocabulary and is left out"));
      } else if (yields) {
        slot = id;
        parts_.origins[what] = std::string(file) + " " + key;
        make_special(*id);
      } else if (slot != id) {
        parts_.notes.push_back(
            concat(name(file), ": ", key, " '", text[0], "' (", *id, ") is overruled by ", now));
      }
      if (parts_.origins[what].empty()) parts_.origins.erase(what);
    };
    take("bos_token", "bos", parts_.bos);
    take("eos_token", "eos", parts_.eos);
    take("pad_token", "pad", parts_.pad);
    take("unk_token", "unk", parts_.unk);
  }

  // A token with a special role is found in text only where specials are asked for.
  void make_special(int32_t id) {
    TokenType& type = parts_.types[static_cast<size_t>(id)];
    if (type == TokenType::user_defined) type = TokenType::control;
  }

  // "eos_token_id" is one id or a list of them.
  void read_ids(const json& config, const char* file) {
    auto id = [&](const json& value, const char* key) {
      return static_cast<int32_t>(as_uint(value, name(file), key, INT32_MAX));
    };
    if (auto* bos = find_field(config, name(file), "bos_token_id"); bos && !parts_.bos) {
      parts_.bos = id(*bos, "bos_token_id");
      parts_.origins["bos"] = std::string(file) + " bos_token_id";
    }
    if (std::string_view(file) == "generation_config.json")
      note_unfollowed_rules(config, name(file), parts_.notes);
    const json* eos = find_field(config, name(file), "eos_token_id");
    if (!eos || !parts_.more_eos.empty()) return;
    if (!eos->is_array()) parts_.more_eos.push_back(id(*eos, "eos_token_id"));
    for (size_t i = 0; eos->is_array() && i < eos->size(); ++i) {
      parts_.more_eos.push_back(id((*eos)[i], "eos_token_id"));
    }
    if (parts_.more_eos.empty()) return;
    parts_.origins["more_eos"] = std::string(file) + " eos_token_id";
    if (!parts_.eos) {
      parts_.eos = parts_.more_eos[0];
      parts_.origins["eos"] = parts_.origins["more_eos"];
    }
  }

  static constexpr const char* kTemplate = "tokenizer.json post_processor";

  path root_;
  TokenizerParts parts_;
  std::string class_;              // tokenizer_class()
  const OwnEnds* own_ = nullptr;   // of this class, if it makes them
  std::map<size_t, Added> added_;  // beyond the vocabulary, by id
  std::set<int32_t> normalized_;
};

}  // namespace

TokenizerParts tokenizer_parts(const path& folder) { return Folder(folder).parts(); }

}  // namespace mullion
