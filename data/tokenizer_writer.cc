// The parts of a tokenizer as JSON, as a SentencePiece model, as the settings beside it.
#include "data/tokenizer_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include "data/protobuf.h"
#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {

std::vector<std::string> merges_of_scores(const TokenizerParts& parts) {
  struct Merge {
    float score;
    int32_t left, right;
  };
  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t id = 0; id < parts.tokens.size(); ++id)
    if (parts.types[id] == TokenType::normal)
      ids.emplace(parts.tokens[id], static_cast<int32_t>(id));
  std::vector<Merge> merges;
  for (const auto& [piece, id] : ids)
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((piece[cut] & 0xC0) == 0x80) continue;  // inside a character
      const auto left = ids.find(piece.substr(0, cut)), right = ids.find(piece.substr(cut));
      if (left != ids.end() && right != ids.end())
        merges.push_back({parts.scores[static_cast<size_t>(id)], left->second, right->second});
    }
  std::sort(merges.begin(), merges.end(), [](const Merge& x, const Merge& y) {
    return std::tuple(-x.score, x.left, x.right) < std::tuple(-y.score, y.left, y.right);
  });
  std::vector<std::string> texts;
  for (const Merge& m : merges)
    texts.push_back(parts.tokens[static_cast<size_t>(m.left)] + " " +
                    parts.tokens[static_cast<size_t>(m.right)]);
  return texts;
}

namespace {

using Json = nlohmann::json;

// sentencepiece_model.proto: pieces (1: text, score, type), trainer_spec (2), normalizer_spec (3).
std::string sentencepiece_model(const TokenizerParts& parts) {
  CHECK_AS(Fault::bad_file, parts.unk, "tokenizer: no unknown token, which tokenizer.model needs");
  std::string model, trainer, normalizer;
  for (size_t id = 0; id < parts.tokens.size(); ++id)
    model += bytes_field(1, bytes_field(1, parts.tokens[id]) + float_field(2, parts.scores[id]) +
                                integer_field(3, static_cast<int64_t>(parts.types[id])));
  const bool bytes =
      std::find(parts.types.begin(), parts.types.end(), TokenType::byte) != parts.types.end();
  trainer += integer_field(3, 2);  // BPE
  trainer += integer_field(4, std::ssize(parts.tokens));
  trainer += integer_field(35, bytes);  // byte_fallback
  trainer += integer_field(40, *parts.unk);
  trainer += integer_field(41, parts.bos.value_or(-1));
  trainer += integer_field(42, parts.eos.value_or(-1));
  trainer += integer_field(43, parts.pad.value_or(-1));
  normalizer += bytes_field(1, "identity");
  normalizer += integer_field(3, parts.add_space_prefix);
  normalizer += integer_field(4, parts.remove_extra_spaces);
  normalizer += integer_field(5, 1);  // escape_whitespaces
  return model + bytes_field(2, trainer) + bytes_field(3, normalizer);
}

Json pre_tokenizer(const std::string& pre) {
  const auto byte_level = [](bool regex) {
    return Json{{"type", "ByteLevel"},
                {"add_prefix_space", false},
                {"trim_offsets", true},
                {"use_regex", regex}};
  };
  const auto sequence = [](const Json& first, const Json& second) {
    return Json{{"type", "Sequence"}, {"pretokenizers", Json::array({first, second})}};
  };
  if (pre == "gpt-2") return byte_level(true);
  if (pre == "smollm" || pre == "starcoder")
    return sequence({{"type", "Digits"}, {"individual_digits", true}}, byte_level(true));
  if (pre == "llama-bpe") {
    const char* words =
        "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
        "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
    return sequence({{"type", "Split"},
                     {"pattern", {{"Regex", words}}},
                     {"behavior", "Isolated"},
                     {"invert", false}},
                    byte_level(false));
  }
  fail(Fault::bad_file, "tokenizer: the pre-tokenizer \"", pre,
       "\" of the GGUF file has no counterpart in tokenizer.json");
}

Json byte_level_decoder() {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", true},
          {"trim_offsets", true},
          {"use_regex", true}};
}

// [BOS] text [EOS], as the tokenizer says.
Json post_processor(const TokenizerParts& parts) {
  const auto text = [](const char* name) {
    return Json{{"Sequence", {{"id", name}, {"type_id", 0}}}};
  };
  Json single = Json::array({text("A")}), pair = Json::array({text("A"), text("B")});
  Json specials = Json::object();
  const auto put = [&](const std::optional<int32_t>& id, bool first) {
    const std::string& token = parts.tokens.at(static_cast<size_t>(*id));
    const Json item = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
    for (Json* list : {&single, &pair}) list->insert(first ? list->begin() : list->end(), item);
    specials[token] = {{"id", token}, {"ids", {*id}}, {"tokens", {token}}};
  };
  if (*parts.add_bos) put(parts.bos, true);
  if (parts.add_eos) put(parts.eos, false);
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", specials}};
}

constexpr const char* kSpace = "\xE2\x96\x81";  // what SentencePiece writes for a space

// Whether tokenizer.json can say the same as tokenizer.model.
bool has_json_form(const TokenizerParts& parts) {
  const bool unused =
      std::find(parts.types.begin(), parts.types.end(), TokenType::unused) != parts.types.end();
  const bool user_defined = std::find(parts.types.begin(), parts.types.end(),
                                      TokenType::user_defined) != parts.types.end();
  return parts.model == "gpt2" ||
         (!parts.remove_extra_spaces && parts.prefix_after_control && !unused &&
          (parts.prefix_after_added || !parts.add_space_prefix || !user_defined));
}

Json space_normalizer(const TokenizerParts& parts) {
  const Json replace = {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpace}};
  Json list = Json::array();
  if (parts.add_space_prefix) list.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  list.push_back(replace);
  return {{"type", "Sequence"}, {"normalizers", list}};
}

Json space_decoder(const TokenizerParts& parts) {
  Json list =
      Json::array({{{"type", "Replace"}, {"pattern", {{"String", kSpace}}}, {"content", " "}},
                   {{"type", "ByteFallback"}},
                   {{"type", "Fuse"}}});
  if (parts.add_space_prefix)
    list.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  return {{"type", "Sequence"}, {"decoders", list}};
}

std::string tokenizer_json(const TokenizerParts& parts) {
  const bool llama = parts.model == "llama";
  Json vocab = Json::object(), added = Json::array();
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    vocab[parts.tokens[id]] = id;
    const TokenType type = parts.types[id];
    const bool special = type == TokenType::control || (llama && type == TokenType::unknown);
    if (!special && type != TokenType::user_defined) continue;
    added.push_back({{"id", id},
                     {"content", parts.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", std::find(parts.normalized.begin(), parts.normalized.end(),
                                              static_cast<int32_t>(id)) != parts.normalized.end()},
                     {"special", special}});
  }
  const bool around = *parts.add_bos || parts.add_eos;
  const Json unknown =
      llama && parts.unk ? Json(parts.tokens.at(static_cast<size_t>(*parts.unk))) : Json(nullptr);
  const Json root = {
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", added},
      {"normalizer", llama ? space_normalizer(parts) : Json(nullptr)},
      {"pre_tokenizer", llama ? Json(nullptr) : pre_tokenizer(parts.pre)},
      {"post_processor", around ? post_processor(parts) : Json(nullptr)},
      {"decoder", llama ? space_decoder(parts) : byte_level_decoder()},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", unknown},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", llama},
        {"byte_fallback", llama},
        {"ignore_merges", parts.ignore_merges},
        {"vocab", vocab},
        {"merges", llama && parts.merges.empty() ? merges_of_scores(parts) : parts.merges}}}};
  return root.dump() + "\n";
}

std::string tokenizer_config(const TokenizerParts& parts) {
  const bool llama = parts.model == "llama";
  // The class that takes tokenizer.json as it is: transformers 5's LlamaTokenizer rebuilds it with
  // another rule for a text that begins with a space.
  const bool as_it_is = has_json_form(parts);
  Json config = {{"tokenizer_class", as_it_is ? "PreTrainedTokenizerFast" : "LlamaTokenizer"},
                 {"add_bos_token", *parts.add_bos},
                 {"add_eos_token", parts.add_eos},
                 {"clean_up_tokenization_spaces", false}};
  // legacy: a space also before the first word after a special token.
  if (llama) config["legacy"] = parts.prefix_after_control;
  if (llama) config["add_prefix_space"] = parts.add_space_prefix;
  const auto name = [&](const char* key, const std::optional<int32_t>& id) {
    config[key] = id ? Json(parts.tokens.at(static_cast<size_t>(*id))) : Json(nullptr);
  };
  name("bos_token", parts.bos);
  name("eos_token", parts.eos);
  name("unk_token", parts.unk);
  name("pad_token", parts.pad);
  if (!parts.chat_template.empty()) config["chat_template"] = parts.chat_template;
  return config.dump(2) + "\n";
}

}  // namespace

std::map<std::string, std::string> tokenizer_files(const Tokenizer& tokenizer) {
  const TokenizerParts& parts = tokenizer.parts();
  std::map<std::string, std::string> files;
  files["tokenizer_config.json"] = tokenizer_config(parts);
  if (parts.model == "llama") files["tokenizer.model"] = sentencepiece_model(parts);
  if (has_json_form(parts)) files["tokenizer.json"] = tokenizer_json(parts);
  return files;
}

void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder) {
  for (const auto& [name, content] : tokenizer_files(tokenizer))
    write_whole_file(folder / name, content);
  const auto again = load_tokenizer(folder);
  TokenizerParts parts = tokenizer.parts();
  if (parts.pre == "starcoder") parts.pre = "smollm";  // the same words
  const auto own = make_tokenizer(std::move(parts));
  const auto same_ends = [&] {
    return again->bos() == own->bos() && again->eos() == own->eos() &&
           again->add_bos() == own->add_bos() && again->add_eos() == own->add_eos() &&
           again->parts().chat_template == own->parts().chat_template;
  };
  CHECK(again->hash() == own->hash() && same_ends(), folder.string(),
        ": the tokenizer read back is another one than was written");
}

}  // namespace mullion
