// Reads Hugging Face's tokenizer.json. Two families are known: byte-level BPE (GPT-2, StarCoder,
// SmolLM2, Llama 3) and SentencePiece BPE in its rewritten form (Llama 2: spaces become "▁", byte
// fallback, merges in the order of the scores). Every component is compared with what these
// families use; anything else is refused by its name rather than approximated.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

using nlohmann::json;

constexpr size_t kMaxTokens = 1'000'000;

class JsonTokenizer {
 public:
  JsonTokenizer(const json& root, const std::string& file) : root_(root), file_(file) {}

  TokenizerParts parts() {
    if (const std::string version = get_string_or(root_, file_, "version", "1.0"); version != "1.0")
      refuse("version", version);
    read_model();
    if (parts_.model == "gpt2") {
      refuse_component("normalizer", root_);
      parts_.pre = read_pre_tokenizer();
      read_byte_level_decoder();
    } else {
      read_space_normalizer();
      read_space_decoder();
    }
    read_added_tokens();
    for (size_t id = 0; id < parts_.tokens.size(); ++id) {
      CHECK_AS(Fault::bad_file, !parts_.tokens[id].empty(), file_, ": no token has id ", id, " of ",
               parts_.tokens.size());
    }
    if (const json* post = find_field(root_, file_, "post_processor")) read_post_processor(*post);
    for (const char* key : {"truncation", "padding"})
      if (find_field(root_, file_, key))
        parts_.notes.push_back(file_ + ": " + key + " is not applied: texts keep their length");
    tell_unknown(root_,
                 "version truncation padding added_tokens normalizer pre_tokenizer post_processor "
                 "decoder model");
    tell_unknown(root_.at("model"),
                 "type dropout unk_token continuing_subword_prefix end_of_word_suffix fuse_unk "
                 "byte_fallback ignore_merges vocab merges");
    return std::move(parts_);
  }

 private:
  void tell_unknown(const json& object, const std::string& known) {
    const std::vector<std::string> names = words_in(known);
    for (const auto& [key, value] : object.items())
      if (!value.is_null() && std::find(names.begin(), names.end(), key) == names.end())
        parts_.notes.push_back(concat(file_, ": ", key, " is not known and not used"));
  }
  std::string type_of(const json& object) const { return get_string_or(object, file_, "type", ""); }
  [[noreturn]] void refuse(const std::string& component, const std::string& type) const {
    fail(Fault::bad_file, file_, ": ", component, " '", type, "' is not supported");
  }
  void refuse_component(const std::string& name, const json& object) const {
    const json* part = find_field(object, file_, name);
    if (!part) return;
    const std::string types = joined(members(*part, (name + "s").c_str()), ", ",
                                     [&](const json* member) { return type_of(*member); });
    if (!types.empty()) refuse(name, types);
  }
  // The members of a Sequence, and of those within it; of anything else, itself.
  std::vector<const json*> members(const json& part, const char* key) const {
    if (type_of(part) != "Sequence") return {&part};
    const json* list = find_field(part, file_, key);
    CHECK_AS(Fault::bad_file, list && list->is_array(), file_, ": a Sequence without ", key);
    std::vector<const json*> out;
    for (const json& item : *list) {
      const std::vector<const json*> inner = members(item, key);
      out.insert(out.end(), inner.begin(), inner.end());
    }
    return out;
  }
  void put(uint64_t id, const std::string& text, const char* where) {
    CHECK_AS(Fault::bad_file, id < entries_, file_, ": ", where, ": '", text, "' has id ", id,
             " in a file of ", entries_, " tokens");
    CHECK_AS(Fault::bad_file, !text.empty(), file_, ": ", where, ": the token of id ", id,
             " is empty");
    if (id >= parts_.tokens.size()) parts_.tokens.resize(id + 1);
    CHECK_AS(Fault::bad_file, parts_.tokens[id].empty() || parts_.tokens[id] == text, file_, ": ",
             where, ": id ", id, " is both '", parts_.tokens[id], "' and '", text, "'");
    parts_.tokens[id] = text;
  }

  void read_model() {
    const json* model = find_field(root_, file_, "model");
    CHECK_AS(Fault::bad_file, model, file_, ": no model");
    std::string type = get_string_or(*model, file_, "type", "BPE");  // old files leave it out
    if (type != "BPE") refuse("model", type);
    CHECK_AS(Fault::bad_file, get_number_or(*model, file_, "dropout", 0) == 0, file_,
             ": model.dropout is not supported");
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      std::string affix = get_string_or(*model, file_, key, "");
      CHECK_AS(Fault::bad_file, affix.empty(), file_, ": model.", key, " '", affix,
               "' is not supported");
    }
    parts_.ignore_merges = get_bool_or(*model, file_, "ignore_merges", false);
    bool byte_fallback = get_bool_or(*model, file_, "byte_fallback", false);
    CHECK_AS(Fault::bad_file, !byte_fallback || !parts_.ignore_merges, file_,
             ": model.ignore_merges with byte_fallback is not supported");
    parts_.model = byte_fallback ? "llama" : "gpt2";
    parts_.fuse_unknown = get_bool_or(*model, file_, "fuse_unk", false);
    const json* vocab = find_field(*model, file_, "vocab");
    CHECK_AS(Fault::bad_file, vocab && vocab->is_object(), file_, ": model.vocab is not an object");
    CHECK_AS(Fault::bad_file, vocab->size() <= kMaxTokens, file_, ": model.vocab has ",
             vocab->size(), " tokens, at most ", kMaxTokens);
    const json* added = find_field(root_, file_, "added_tokens");
    entries_ = vocab->size() + (added && added->is_array() ? added->size() : 0);
    for (const auto& [text, id] : vocab->items()) {
      put(as_uint(id, file_, "model.vocab", kMaxTokens - 1), text, "model.vocab");
    }
    read_merges(*model);
    std::string unknown = get_string_or(*model, file_, "unk_token", "");
    if (auto id = find(unknown); id && !unknown.empty()) {
      parts_.unk = id;
      parts_.origins["unk"] = "tokenizer.json model.unk_token";
      parts_.unknown_text.clear();
    }
  }

  std::optional<int32_t> find(const std::string& text) const {
    auto found = std::find(parts_.tokens.begin(), parts_.tokens.end(), text);
    if (found == parts_.tokens.end()) return std::nullopt;
    return static_cast<int32_t>(found - parts_.tokens.begin());
  }

  void read_merges(const json& model) {
    const json* merges = find_field(model, file_, "merges");
    CHECK_AS(Fault::bad_file, merges && merges->is_array(), file_, ": model.merges is not a list");
    for (const json& merge : *merges) {
      if (merge.is_string()) {
        parts_.merges.push_back(merge.get<std::string>());
        continue;
      }
      CHECK_AS(Fault::bad_file, merge.is_array() && merge.size() == 2, file_, ": model.merges[",
               parts_.merges.size(), "] is neither \"a b\" nor [\"a\", \"b\"]");
      parts_.merges.push_back(as_string(merge[0], file_, "model.merges") + " " +
                              as_string(merge[1], file_, "model.merges"));
    }
    if (parts_.model == "llama") merges_to_scores();
  }

  // For a GGUF file, which has no merges of this kind: minus the rank of the first one that forms
  // the piece.
  void merges_to_scores() {
    std::unordered_map<std::string, size_t> ranks;
    for (size_t rank = 0; rank < parts_.merges.size(); ++rank) {
      std::string joined = parts_.merges[rank];
      std::erase(joined, ' ');
      ranks.emplace(std::move(joined), rank);
    }
    for (const std::string& text : parts_.tokens) {
      auto found = ranks.find(text);
      size_t rank = found == ranks.end() ? parts_.merges.size() : found->second;
      parts_.scores.push_back(-static_cast<float>(rank));
    }
  }

  std::string read_pre_tokenizer() const {
    const json* pre = find_field(root_, file_, "pre_tokenizer");
    CHECK_AS(Fault::bad_file, pre, file_, ": no pre_tokenizer");
    std::string name;
    bool regex = false;  // of ByteLevel, which comes last
    for (const json* part : members(*pre, "pretokenizers")) {
      std::string type = type_of(*part);
      CHECK_AS(Fault::bad_file, !regex, file_, ": pre_tokenizer: '", type, "' after ByteLevel");
      if (type == "ByteLevel") {
        CHECK_AS(Fault::bad_file, !get_bool_or(*part, file_, "add_prefix_space", true), file_,
                 ": pre_tokenizer ByteLevel: add_prefix_space is not supported");
        regex = get_bool_or(*part, file_, "use_regex", true);
        if (!regex && name != "smollm" && !name.empty()) return name;  // Split came before
        if (!regex) refuse("pre_tokenizer ByteLevel", "use_regex = false");
      } else if (type == "Digits" && name.empty()) {
        CHECK_AS(Fault::bad_file, get_bool_or(*part, file_, "individual_digits", false), file_,
                 ": pre_tokenizer Digits: individual_digits = false is not supported");
        name = "smollm";
      } else if (type == "Split" && name.empty()) {
        name = read_split(*part);
      } else {
        refuse("pre_tokenizer", type);
      }
    }
    CHECK_AS(Fault::bad_file, regex && (name.empty() || name == "smollm"), file_,
             ": pre_tokenizer: this combination of parts is not supported");
    return name.empty() ? "gpt-2" : name;
  }

  std::string read_split(const json& split) const {
    const json* pattern = find_field(split, file_, "pattern");
    CHECK_AS(Fault::bad_file, pattern && pattern->is_object(), file_,
             ": pre_tokenizer Split: no pattern");
    std::string regex = get_string_or(*pattern, file_, "Regex", "");
    std::string name = pre_of_split_regex(regex);
    if (name.empty()) refuse("pre_tokenizer Split with the pattern", regex);
    std::string behavior = get_string_or(split, file_, "behavior", "");
    CHECK_AS(Fault::bad_file, behavior == "Isolated" && !get_bool_or(split, file_, "invert", false),
             file_, ": pre_tokenizer Split: behavior '", behavior, "' is not supported");
    return name;
  }

  void read_byte_level_decoder() const {
    const json* decoder = find_field(root_, file_, "decoder");
    if (decoder && type_of(*decoder) != "ByteLevel") refuse("decoder", type_of(*decoder));
  }

  // Llama 2: Prepend "▁", then Replace " " by "▁"; or the Metaspace pre-tokenizer, which says both.
  void read_space_normalizer() {
    parts_.add_space_prefix = false;
    bool replaces = false;
    if (const json* normalizer = find_field(root_, file_, "normalizer")) {
      for (const json* part : members(*normalizer, "normalizers")) {
        std::string type = type_of(*part);
        if (type == "Prepend" && !parts_.add_space_prefix &&
            get_string(*part, file_, "prepend") == kSpace) {
          parts_.add_space_prefix = true;
          parts_.prefix_after_added = true;
        } else if (type == "Replace" && is_space_replacement(*part)) {
          replaces = true;
        } else {
          refuse("normalizer", type);
        }
      }
    }
    if (const json* pre = find_field(root_, file_, "pre_tokenizer")) {
      for (const json* part : members(*pre, "pretokenizers")) {
        if (type_of(*part) != "Metaspace" || replaces || parts_.add_space_prefix)
          refuse("pre_tokenizer with byte_fallback", type_of(*part));
        read_metaspace(*part);
        replaces = true;
      }
    }
    CHECK_AS(Fault::bad_file, replaces, file_,
             ": model.byte_fallback without a Replace of spaces by U+2581 is not supported");
  }

  // Every space becomes "▁". prepend_scheme says where one is put before a text that has none at
  // its start: before the first stretch between special tokens, before all, or nowhere. Older
  // writers say add_prefix_space for always and never.
  void read_metaspace(const json& part) {
    const std::string replacement = get_string(part, file_, "replacement");
    CHECK_AS(Fault::bad_file, replacement == kSpace, file_,
             ": pre_tokenizer Metaspace: replacement '", replacement, "' is not supported");
    std::string scheme = get_string_or(part, file_, "prepend_scheme", "always");
    CHECK_AS(Fault::bad_file, scheme == "always" || scheme == "first" || scheme == "never", file_,
             ": pre_tokenizer Metaspace: prepend_scheme '", scheme,
             "' is neither first, always nor never");
    if (!get_bool_or(part, file_, "add_prefix_space", true)) scheme = "never";
    parts_.metaspace = true;
    parts_.add_space_prefix = scheme != "never";
    parts_.prefix_after_control = parts_.prefix_after_added = scheme == "always";
    parts_.split_words = get_bool_or(part, file_, "split", true);
  }

  bool is_space_replacement(const json& replace) const {
    const json* pattern = find_field(replace, file_, "pattern");
    return pattern && pattern->is_object() && get_string_or(*pattern, file_, "String", "") == " " &&
           get_string(replace, file_, "content") == kSpace;
  }

  void read_added_tokens() {
    const size_t size = parts_.tokens.size();
    parts_.types.assign(size, TokenType::normal);
    if (parts_.model == "llama") mark_bytes();
    if (const json* added = find_field(root_, file_, "added_tokens")) {
      CHECK_AS(Fault::bad_file, added->is_array(), file_, ": added_tokens is not a list");
      for (const json& token : *added) read_added_token(token);
    }
    parts_.scores.resize(parts_.model == "llama" ? parts_.tokens.size() : 0);
  }

  void read_added_token(const json& token) {
    uint64_t id = get_uint(token, file_, "id", kMaxTokens - 1);
    std::string text = get_string(token, file_, "content");
    for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
      CHECK_AS(Fault::bad_file, !get_bool_or(token, file_, flag, false), file_, ": added token '",
               text, "': ", flag, " is not supported");
    }
    put(id, text, "added_tokens");
    parts_.types.resize(parts_.tokens.size(), TokenType::normal);
    bool special = get_bool_or(token, file_, "special", false);
    bool unknown = parts_.model == "llama" && parts_.unk && *parts_.unk == static_cast<int32_t>(id);
    // Metaspace is no normalizer: it leaves these tokens as they are.
    if (parts_.model == "llama" && !parts_.metaspace &&
        get_bool_or(token, file_, "normalized", false))
      parts_.normalized.push_back(static_cast<int32_t>(id));
    parts_.types[id] = unknown   ? TokenType::unknown
                       : special ? TokenType::control
                                 : TokenType::user_defined;
  }

  void mark_bytes() {
    for (size_t id = 0; id < parts_.tokens.size(); ++id) {
      const std::string& text = parts_.tokens[id];
      if (text.size() == 6 && text.starts_with("<0x") && text[5] == '>') {
        parts_.types[id] = TokenType::byte;
      }
    }
  }

  // TemplateProcessing says which specials stand around a text; ByteLevel only moves offsets.
  void read_post_processor(const json& post) {
    for (const json* part : members(post, "processors")) {
      std::string type = type_of(*part);
      if (type == "TemplateProcessing") {
        read_template(*part);
      } else if (type != "ByteLevel") {
        refuse("post_processor", type);
      }
    }
  }

  void read_template(const json& part) {
    CHECK_AS(Fault::bad_file, !parts_.origins.contains("add_bos"), file_,
             ": post_processor: a second TemplateProcessing is not supported");
    const json* single = find_field(part, file_, "single");
    CHECK_AS(Fault::bad_file, single && single->is_array(), file_,
             ": post_processor TemplateProcessing: single is not a list");
    std::optional<int32_t> before, after;
    bool text = false;
    for (const json& item : *single) {
      const json* special = find_field(item, file_, "SpecialToken");
      if (!special) {
        const json* sequence = find_field(item, file_, "Sequence");
        CHECK_AS(Fault::bad_file, !text && sequence && get_string(*sequence, file_, "id") == "A",
                 file_, ": post_processor TemplateProcessing: single is not [BOS] text [EOS]");
        text = true;
        continue;
      }
      std::string name = get_string(*special, file_, "id");
      std::optional<int32_t>& slot = text ? after : before;
      CHECK_AS(Fault::bad_file, !slot && find(name), file_,
               ": post_processor TemplateProcessing: '", name,
               "' is a second token on its side or not in the vocabulary");
      slot = find(name);
      check_special(part, name, *slot);
    }
    CHECK_AS(Fault::bad_file, text, file_,
             ": post_processor TemplateProcessing: single has no text");
    const std::string from = "tokenizer.json post_processor";
    if (before) parts_.bos = before, parts_.origins["bos"] = from;
    if (after) parts_.eos = after, parts_.origins["eos"] = from;
    parts_.origins["add_bos"] = parts_.origins["add_eos"] = from;
    parts_.add_bos = before.has_value();
    parts_.add_eos = after.has_value();
  }

  // special_tokens: {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}; the ids decide there.
  void check_special(const json& part, const std::string& name, int32_t id) const {
    const json* tokens = find_field(part, file_, "special_tokens");
    const json* token = tokens ? find_field(*tokens, file_, name.c_str()) : nullptr;
    if (!token) return;
    const json* ids = find_field(*token, file_, "ids");
    CHECK_AS(Fault::bad_file, ids && *ids == json::array({id}), file_,
             ": post_processor TemplateProcessing: special_tokens gives '", name, "' the ids ",
             ids ? ids->dump() : "null", ", in the vocabulary it is ", id);
  }

  // Decoding is that of the family, whatever the file says; another decoder gives other texts.
  void read_space_decoder() {
    static const std::vector<std::string> kFamily = {"Replace", "ByteFallback", "Fuse"};
    std::vector<std::string> types;
    if (const json* decoder = find_field(root_, file_, "decoder"))
      for (const json* part : members(*decoder, "decoders")) types.push_back(type_of(*part));
    const std::string list = joined(types);
    const bool strips = !types.empty() && types.back() == "Strip";
    if (strips) types.pop_back();
    if (types == kFamily && strips == parts_.add_space_prefix) return;
    parts_.notes.push_back(file_ + ": decoder [" + list + "] is not followed: texts are decoded " +
                           "by Replace, ByteFallback, Fuse" +
                           (parts_.add_space_prefix ? " and Strip" : ""));
  }

  static constexpr const char* kSpace = "\xE2\x96\x81";
  const json& root_;
  const std::string& file_;
  // Tokens listed anywhere: ids have no gaps, so one from here on is wrong however far it goes.
  size_t entries_ = 0;
  TokenizerParts parts_;
};

}  // namespace

TokenizerParts parse_tokenizer_json(std::string_view bytes, const std::string& name) {
  json root = parse_json(bytes, name);
  CHECK_AS(Fault::bad_file, root.is_object(), name, ": not a JSON object");
  return JsonTokenizer(root, name).parts();
}

}  // namespace mullion
