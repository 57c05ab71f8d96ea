// Byte-level BPE and tokenizer.json. The words of the pre-tokenizers are those of the Python
// package tokenizers 0.21; ids are checked by hand on a vocabulary of 264 tokens.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "data/pre_tokenizer.h"
#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tests/data/tokenizer_samples.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

using nlohmann::json;
using Ids = std::vector<int32_t>;
using Words = std::vector<std::string>;

std::unique_ptr<Tokenizer> load(const json& root) {
  return make_tokenizer(parse_tokenizer_json(root.dump(), "sample"));
}

json digits_pre_tokenizer() {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Digits"}, {"individual_digits", true}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}};
}

json llama3_pre_tokenizer() {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"},
             {"pattern",
              {{"Regex",
                "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}}},
             {"behavior", "Isolated"},
             {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
}

Words words(const std::string& pre, const std::string& text) {
  std::vector<std::string_view> views;
  PreTokenizer(pre).split(text, views);
  return Words(views.begin(), views.end());
}

TEST(PreTokenizer, Gpt2) {
  EXPECT_EQ(words("gpt-2", "Hello world, it's 2024!"),
            (Words{"Hello", " world", ",", " it", "'s", " 2024", "!"}));
  EXPECT_EQ(words("gpt-2", "x\n\n  y \r\n\r\nz"),
            (Words{"x", "\n\n ", " y", " \r\n\r", "\n", "z"}));
  EXPECT_EQ(words("gpt-2", "I'LL we'Re o'clock '''"),
            (Words{"I", "'", "LL", " we", "'", "Re", " o", "'", "clock", " '''"}));
  EXPECT_EQ(words("gpt-2", "1234567 v12.5 ½Ⅷ٣"), (Words{"1234567", " v", "12", ".", "5", " ½Ⅷ٣"}));
  EXPECT_EQ(words("gpt-2", "\u3000\u00a0a\u180eb\u0085c"),
            (Words{"\u3000", "\u00a0", "a", "\u180e", "b", "\u0085", "c"}));
}

TEST(PreTokenizer, Smollm) {
  EXPECT_EQ(words("smollm", "Hello world, it's 2024!"),
            (Words{"Hello", " world", ",", " it", "'s", " ", "2", "0", "2", "4", "!"}));
  EXPECT_EQ(words("smollm", "1234567 v12.5 ½Ⅷ٣"), (Words{"1", "2", "3", "4", "5", "6", "7", " v",
                                                         "1", "2", ".", "5", " ", "½", "Ⅷ", "٣"}));
  EXPECT_EQ(words("smollm", "   12  ab"), (Words{"   ", "1", "2", " ", " ab"}));
  EXPECT_EQ(words("starcoder", "   12  ab"), words("smollm", "   12  ab"));
}

TEST(PreTokenizer, Llama3) {
  EXPECT_EQ(words("llama-bpe", "Hello world, it's 2024!"),
            (Words{"Hello", " world", ",", " it", "'s", " ", "202", "4", "!"}));
  EXPECT_EQ(words("llama-bpe", "x\n\n  y \r\n\r\nz"),
            (Words{"x", "\n\n", " ", " y", " \r\n\r\n", "z"}));
  EXPECT_EQ(words("llama-bpe", "I'LL we'Re o'clock '''"),
            (Words{"I", "'LL", " we", "'Re", " o", "'clock", " '''"}));
  EXPECT_EQ(words("llama-bpe", "_foo(bar)->baz; //x\n\t}"),
            (Words{"_foo", "(bar", ")->", "baz", ";", " //", "x", "\n", "\t", "}"}));
  EXPECT_EQ(words("llama-bpe", "\u3000\u00a0a\u180eb\u0085c"),
            (Words{"\u3000", "\u00a0a", "\u180eb", "\u0085c"}));
}

TEST(PreTokenizer, WordsOfAnyBytesJoinToTheText) {
  std::mt19937 random(2);
  for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "default"}) {
    for (int round = 0; round < 100; ++round) {
      std::string bytes = test::random_bytes(random, random() % 80), joined;
      for (const std::string& word : words(pre, bytes)) joined += word;
      ASSERT_EQ(joined, bytes);
    }
  }
  EXPECT_THROW(PreTokenizer("qwen2"), Error);
}

TEST(ByteLevel, MergesTheLowestRankFirst) {
  auto tokenizer = load(test::json_sample());
  auto ids = [&](std::initializer_list<const char*> texts) {
    Ids out;
    for (const char* text : texts) out.push_back(tokenizer->find(text).value());
    return out;
  };
  EXPECT_EQ(tokenizer->encode("the the"), ids({"t", "he", "Ġthe"}));
  EXPECT_EQ(tokenizer->encode("aaaaaaa"), ids({"aaaa", "aa", "a"}));
  EXPECT_EQ(tokenizer->encode("ing"), ids({"i", "ng"}));
  EXPECT_EQ(tokenizer->token_bytes(tokenizer->find("Ġthe").value()), " the");
  EXPECT_EQ(tokenizer->encode("a<|end|>", {.parse_specials = true}), ids({"a", "<|end|>"}));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a<|end|>")), "a<|end|>");
  EXPECT_FALSE(tokenizer->add_bos());
}

TEST(ByteLevel, PiecesOfTheJsonFile) {
  json root = test::json_sample();
  root["pre_tokenizer"] = digits_pre_tokenizer();
  EXPECT_EQ(load(root)->parts().pre, "smollm");
  EXPECT_EQ(load(root)->encode("12").size(), 2u);
  root["pre_tokenizer"] = llama3_pre_tokenizer();
  EXPECT_EQ(load(root)->parts().pre, "llama-bpe");
  EXPECT_EQ(load(root)->encode("12").size(), 1u);
  EXPECT_EQ(load(root)->encode("ing").size(), 2u);
  root["model"]["ignore_merges"] = true;
  EXPECT_EQ(load(root)->encode("ing").size(), 1u);
  for (json& merge : root["model"]["merges"]) {  // the newer form
    std::string text = merge;
    size_t space = text.find(' ');
    merge = {text.substr(0, space), text.substr(space + 1)};
  }
  root["model"].erase("type");
  EXPECT_EQ(load(root)->encode(" the").size(), 1u);
  root["post_processor"] = {{"type", "TemplateProcessing"},
                            {"single",
                             {{{"SpecialToken", {{"id", "<|end|>"}, {"type_id", 0}}}},
                              {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}}};
  auto tokenizer = load(root);
  EXPECT_TRUE(tokenizer->add_bos());
  EXPECT_EQ(tokenizer->bos(), tokenizer->find("<|end|>"));
}

TEST(ByteLevel, AnyBytesComeBack) {
  std::mt19937 random(3);
  for (const json& pre : {json(test::json_sample()["pre_tokenizer"]), digits_pre_tokenizer(),
                          llama3_pre_tokenizer()}) {
    json root = test::json_sample();
    root["pre_tokenizer"] = pre;
    auto tokenizer = load(root);
    for (int round = 0; round < 200; ++round) {
      std::string bytes = test::random_bytes(random, random() % 80);
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(bytes)), bytes);
      Ids parsed = tokenizer->encode(bytes, {.parse_specials = true});
      ASSERT_EQ(tokenizer->decode(parsed, {.specials = true}), bytes);
    }
  }
}

// Ids by llama.cpp (Python package llama-cpp-python 0.3.9).
TEST(ByteLevel, SmolLM2EqualsLlamaCpp) {
  REQUIRE_SMOLLM2();
  auto tokenizer = load_tokenizer(test::smollm2_path());
  EXPECT_EQ(tokenizer->encode("In 1984, it's   naïve:\n\t42 🙂 日本"),
            (Ids{788,   216, 33,   41, 40, 36,    28,    357, 506, 256,  15486,
                 46494, 42,  3354, 36, 34, 47526, 17097, 241, 115, 40993}));
  EXPECT_EQ(tokenizer->encode("<|im_start|>user\nHi<|im_end|>", {.parse_specials = true}),
            (Ids{1, 4093, 198, 26843, 2}));
  EXPECT_TRUE(tokenizer->is_eos(2));
  EXPECT_FALSE(tokenizer->add_bos());
}

TEST(ByteLevel, AMillionLettersInOneWord) {
  auto tokenizer = load(test::json_sample());
  EXPECT_EQ(tokenizer->encode(std::string(1'000'000, 'a')).size(), 250'000u);
}

// Changes the value at a JSON pointer and expects a refusal that contains `word`.
void expect_refused(const std::string& pointer, const json& value, const std::string& word) {
  json root = test::json_sample();
  root[json::json_pointer(pointer)] = value;
  try {
    load(root);
    FAIL() << pointer << " = " << value << ": accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(ByteLevel, RefusesWhatItDoesNotKnowByName) {
  expect_refused("/normalizer", {{"type", "NFC"}}, "NFC");
  expect_refused("/pre_tokenizer", {{"type", "Metaspace"}, {"replacement", "_"}}, "Metaspace");
  expect_refused("/pre_tokenizer", {{"type", "ByteLevel"}}, "add_prefix_space");
  expect_refused("/pre_tokenizer", nullptr, "pre_tokenizer");
  json split = llama3_pre_tokenizer();
  split["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+$";
  expect_refused("/pre_tokenizer", split, "(a+)+$");
  expect_refused("/post_processor", {{"type", "BertProcessing"}}, "BertProcessing");
  expect_refused("/decoder", {{"type", "WordPiece"}}, "WordPiece");
  expect_refused("/model/type", "Unigram", "Unigram");
  expect_refused("/model/dropout", 0.1, "dropout");
  expect_refused("/model/end_of_word_suffix", "</w>", "end_of_word_suffix");
  expect_refused("/model/byte_fallback", true, "byte_fallback");
}

TEST(ByteLevel, RefusesContradictions) {
  expect_refused("/model/merges/2", "Ġt zz", "'zz' is not in the vocabulary");
  expect_refused("/model/merges/2", "n n", "'nn' is not in the vocabulary");
  expect_refused("/model/merges/2", "one", "not two tokens");
  expect_refused("/model/merges/2", 7, "merges");
  expect_refused("/model/merges/2", json::array({"a", "b", "c"}), "merges");
  expect_refused("/model/vocab/he", 0, "id 0");
  expect_refused("/model/vocab/he", 999999, "'he' has id 999999 in a file of 265 tokens");
  expect_refused("/model/vocab/he", -1, "vocab");
  expect_refused("/model/vocab/he", 1e9, "vocab");
  expect_refused("/model/vocab/he", 2.5, "vocab");
  expect_refused("/added_tokens/0/id", 5, "id 5");
  expect_refused("/added_tokens/0/id", 265, "'<|end|>' has id 265 in a file of 265 tokens");
  const json zero = {{"id", 0}, {"content", byte_level_encode({"", 1})}};
  expect_refused("/added_tokens", {zero, {{"id", 265}, {"content", "<|end|>"}}},
                 "no token has id 264");
  expect_refused("/added_tokens/0/content", "", "empty");
  expect_refused("/added_tokens/0/lstrip", true, "lstrip");
  expect_refused("/added_tokens", json::object({{"a", 1}}), "added_tokens");
}

json without(json root, const std::string& bytes) {
  json vocab = json::object();
  for (const auto& [text, id] : root["model"]["vocab"].items()) {
    bool missing = bytes.find(byte_level_decode(text).value()) != std::string::npos;
    vocab[missing ? text + text : text] = id;
  }
  root["model"]["vocab"] = vocab;
  return root;
}

TEST(ByteLevel, AMissingByteBecomesTheReplacementCharacter) {
  auto tokenizer = load(without(test::json_sample(), "\xFF"));
  EXPECT_EQ(tokenizer->decode(tokenizer->encode("a\xFF z")), "a\uFFFD z");
}

TEST(ByteLevel, AMissingByteIsUnknownOrAnErrorOfTheText) {
  json root = without(test::json_sample(), "z\xEF");
  EXPECT_EQ(load(root)->encode("the").size(), 2u);
  EXPECT_THROW(load(root)->encode("z"), Error);
  root["model"]["unk_token"] = "q";
  EXPECT_EQ(load(root)->encode("z"), load(root)->encode("q"));
}

}  // namespace
}  // namespace mullion
