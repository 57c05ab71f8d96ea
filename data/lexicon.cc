// Permutations and chains drawn from the document's number; its tokenizer's file.
#include "data/lexicon.h"

#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <utility>

#include "tensor/io/json.h"
#include "tensor/random.h"

namespace mullion {
namespace {

using Map = std::array<int32_t, kLexiconKeys>;

constexpr float kSurprise = 0.15f;  // probability that the next key is any key

enum class Purpose : uint64_t { chain = 1, document };

Map permutation(Philox& random) {
  Map map;
  std::iota(map.begin(), map.end(), 0);
  for (size_t i = map.size() - 1; i > 0; --i) {
    std::swap(map[i], map[random.below(static_cast<uint32_t>(i + 1))]);
  }
  return map;
}

int32_t any_key(Philox& random) { return static_cast<int32_t>(random.below(kLexiconKeys)); }

// "ba", "be", ... : 20 consonants by 5 vowels, the first 96.
std::string syllable(int32_t number) {
  static constexpr char kConsonants[] = "bdfghjklmnprstvwxyzc", kVowels[] = "aeiou";
  return {kConsonants[number / 5], kVowels[number % 5]};
}

std::string upper(std::string text) {
  for (char& c : text) c = static_cast<char>(c - 'a' + 'A');
  return text;
}

nlohmann::json added_token(int32_t id, const std::string& text, bool special) {
  return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", special}};
}

}  // namespace

Lexicon::Lexicon(uint64_t seed) : seed_(seed) {
  Philox random{seed, static_cast<uint64_t>(Purpose::chain), 0};
  for (auto& next : successors_) {
    for (int32_t& key : next) key = any_key(random);
  }
}

void Lexicon::document(uint64_t number, std::span<int32_t> out, float repeats) const {
  if (out.empty()) return;
  Philox random{seed_, mix_bits(number, static_cast<uint64_t>(Purpose::document)), 0};
  const Map value_of = permutation(random);
  out[0] = kLexiconBos;
  int32_t key = any_key(random);
  for (size_t i = 1; i < out.size(); i += 2) {
    out[i] = key;
    if (i + 1 < out.size()) out[i + 1] = kLexiconKeys + value_of[static_cast<size_t>(key)];
    if (repeats > 0 && random.uniform() < repeats) {
      key = out[1 + 2 * random.below(static_cast<uint32_t>(i / 2 + 1))];
      continue;
    }
    const bool surprise = random.uniform() < kSurprise;
    key = surprise ? any_key(random) : successors_[static_cast<size_t>(key)][random.below(3)];
  }
}

void write_lexicon_tokenizer(const std::filesystem::path& folder, LexiconWords words) {
  using nlohmann::json;
  const bool spaced = words == LexiconWords::spaced;
  json vocab = json::object(), added = json::array();
  for (int32_t i = 0; i < kLexiconKeys; ++i) {
    const std::string key = syllable(i), value = upper(key);
    added.push_back(added_token(i, spaced ? " " + key + ":" : key + "=", false));
    added.push_back(added_token(kLexiconKeys + i, spaced ? " " + value : value + " ", false));
  }
  added.push_back(added_token(kLexiconBos, "<s>", true));
  added.push_back(added_token(kLexiconEos, "</s>", true));
  for (const json& token : added) vocab[token["content"].get<std::string>()] = token["id"];
  const json with_bos = {
      {"type", "TemplateProcessing"},
      {"single",
       {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
        {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
      {"pair", json::array()},
      {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {kLexiconBos}}, {"tokens", {"<s>"}}}}}}};
  const json byte_level = {{"type", "ByteLevel"},
                           {"add_prefix_space", false},
                           {"trim_offsets", true},
                           {"use_regex", true}};
  write_json_file(
      folder / "tokenizer.json",
      {{"version", "1.0"},
       {"truncation", nullptr},
       {"padding", nullptr},
       {"added_tokens", added},
       {"normalizer", nullptr},
       {"pre_tokenizer", byte_level},
       {"post_processor", with_bos},
       {"decoder", byte_level},
       {"model",
        {{"type", "BPE"}, {"unk_token", "</s>"}, {"vocab", vocab}, {"merges", json::array()}}}});
  write_json_file(folder / "tokenizer_config.json", {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                                     {"bos_token", "<s>"},
                                                     {"eos_token", "</s>"},
                                                     {"unk_token", "</s>"}});
}

}  // namespace mullion
