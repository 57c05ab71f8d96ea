// SentencePiece BPE: equal to the published cases and to the library's tokens of five books, any
// bytes come back, and a model file with anything wrong is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "data/text_stream.h"
#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/data/tokenizer_samples.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

using test::shared_path;
using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> load(const test::SpmSample& sample) {
  return make_tokenizer(parse_sentencepiece_model(sample.bytes(), "sample"));
}

std::string read(const std::string& relative) {
  return read_whole_file(shared_path(relative), 64 << 20);
}

TEST(SentencePiece, MergesTheHighestScoreFirst) {
  auto tokenizer = load(test::spm_sample());
  auto ids = [&](std::initializer_list<const char*> texts) {
    Ids out;
    for (const char* text : texts) out.push_back(tokenizer->find(text).value());
    return out;
  };
  EXPECT_EQ(tokenizer->encode("the and then"), ids({"▁the", "▁and", "▁the", "n"}));
  EXPECT_EQ(tokenizer->encode("aaaaa"), ids({"▁", "aaaa", "a"}));
  EXPECT_EQ(tokenizer->encode(" the"), ids({"▁", "▁the"}));
  EXPECT_EQ(tokenizer->encode("the", {.space_prefix = false}), ids({"t", "he"}));
  EXPECT_EQ(tokenizer->encode("z"), ids({"▁", "<0x7A>"}));
  EXPECT_EQ(tokenizer->encode("é x"), ids({"▁", "é", "▁", "<0x78>"}));  // "▁x" is no piece
  EXPECT_EQ(tokenizer->encode(""), Ids{});
  EXPECT_EQ(tokenizer->encode("t", {.bos = true, .eos = true}), ids({"<s>", "▁t", "</s>"}));
}

TEST(SentencePiece, SpecialsAreFoundOnlyWhenAsked) {
  auto tokenizer = load(test::spm_sample());
  const std::string text = "<s>the</s>";
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  Ids parsed = tokenizer->encode(text, {.parse_specials = true});
  EXPECT_EQ(parsed, (Ids{1, tokenizer->find("▁the").value(), 2}));
  EXPECT_EQ(tokenizer->decode(parsed), "the");
  EXPECT_EQ(tokenizer->decode(parsed, {.specials = true}), "<s> the</s>");  // as transformers
  EXPECT_THROW(tokenizer->decode(Ids{-1}), Error);
  EXPECT_THROW(tokenizer->decode(Ids{tokenizer->vocab_size()}), Error);
}

TEST(SentencePiece, AnyBytesComeBack) {
  std::mt19937 random(1);
  for (bool prefix : {true, false}) {
    test::SpmSample sample = test::spm_sample();
    sample.space_prefix = prefix;
    auto tokenizer = load(sample);
    for (int round = 0; round < 300; ++round) {
      std::string bytes = test::random_bytes(random, random() % 60);
      const std::string spaced = test::with_spaces(bytes);
      ASSERT_EQ(tokenizer->decode(tokenizer->encode(bytes)), spaced);
      Ids parsed = tokenizer->encode(bytes, {.parse_specials = true});
      if (prefix) continue;  // the space after a special token stays
      ASSERT_EQ(tokenizer->decode(parsed, {.specials = true}), spaced);
    }
  }
}

TEST(SentencePiece, UserDefinedTokensComeBeforeAllElse) {
  test::SpmSample sample = test::spm_sample();
  sample.pieces.push_back({"<|user|>", 0, 4});
  sample.pieces.push_back({"the", 0, 4});
  auto tokenizer = load(sample);
  EXPECT_EQ(tokenizer->encode("<|user|>the"),
            (Ids{tokenizer->find("<|user|>").value(), tokenizer->find("the").value()}));
  for (std::string text : {"<|user|> the", " the<|user|>and", "a the"}) {
    EXPECT_EQ(tokenizer->decode(tokenizer->encode(text)), text);
  }
}

TEST(SentencePiece, AStreamOfTokensIsDecodedAsAllOfThem) {
  auto tokenizer = load(test::spm_sample());
  for (const std::string text : {"<s>the</s>the and", "the <s> the", " the", "<s><s> and"})
    for (const bool specials : {false, true}) {
      const Ids ids = tokenizer->encode(text, {.parse_specials = true});
      TextStream stream(*tokenizer, {.specials = specials});
      std::string streamed;
      for (const int32_t id : ids) streamed += stream.push(id);
      EXPECT_EQ(streamed + stream.finish(), tokenizer->decode(ids, {.specials = specials})) << text;
    }
}

// The symbol that stands for a space is one where the text itself has it, as in sentencepiece.
TEST(SentencePiece, TheSymbolForASpaceIsASpace) {
  auto tokenizer = load(test::spm_sample());
  EXPECT_EQ(tokenizer->encode("the▁and"), tokenizer->encode("the and"));
  EXPECT_EQ(tokenizer->encode("▁the"), tokenizer->encode(" the"));
}

TEST(SentencePiece, WithoutByteTokensAStretchBecomesOneUnknown) {
  test::SpmSample sample = test::spm_sample();
  sample.pieces.erase(sample.pieces.begin() + 3, sample.pieces.begin() + 259);
  auto tokenizer = load(sample);
  EXPECT_EQ(tokenizer->encode("the zzz"),
            (Ids{tokenizer->find("▁the").value(), tokenizer->find("▁").value(), 0}));
}

TEST(SentencePiece, PublishedCasesOfLlama2) {
  REQUIRE_SHARED("data/tokenizer/llama2_tokenizer.model");
  auto tokenizer = load_tokenizer(shared_path("data/tokenizer/llama2_tokenizer.model"));
  const std::string separator = "\n__ggml_vocab_test__\n";
  std::string inputs = read("data/tokenizer/ggml-vocab-llama-spm.gguf.inp");
  std::istringstream outputs(read("data/tokenizer/ggml-vocab-llama-spm.gguf.out"));
  int cases = 0;
  for (size_t at = 0; at != std::string::npos; ++cases) {
    size_t end = inputs.find(separator, at);
    std::string text = inputs.substr(at, end == std::string::npos ? end : end - at);
    at = end == std::string::npos ? end : end + separator.size();
    std::string line;
    std::getline(outputs, line);
    std::istringstream numbers(line);
    Ids expected(std::istream_iterator<int32_t>(numbers), {});
    EXPECT_EQ(tokenizer->encode(text), expected) << "case " << cases << ": " << text;
  }
  EXPECT_EQ(cases, 47);
}

TEST(SentencePiece, BooksEqualTheLibrary) {
  REQUIRE_SHARED("data/text/tokens/pg19_test5_llama2.bin");
  auto tokenizer = load_tokenizer(shared_path("data/tokenizer/llama2_tokenizer.model"));
  std::string raw = read("data/text/tokens/pg19_test5_llama2.bin");
  Ids expected, found;
  for (size_t i = 0; i < raw.size(); i += 2) {
    expected.push_back(static_cast<uint8_t>(raw[i]) | static_cast<uint8_t>(raw[i + 1]) << 8);
  }
  for (const char* book : {"860", "8197", "22424", "40700", "49078"}) {
    std::string text = read(std::string("data/text/pg19_test/") + book + ".txt");
    Ids ids = tokenizer->encode(text, {.bos = true});
    ASSERT_EQ(tokenizer->decode(ids), text);
    found.insert(found.end(), ids.begin(), ids.end());
  }
  EXPECT_TRUE(found == expected);
}

TEST(SentencePiece, TheSameHashFromAModelFileAndFromGguf) {
  REQUIRE_SHARED("data/tokenizer/ggml-vocab-llama-spm.gguf");
  auto file = load_tokenizer(shared_path("data/tokenizer/llama2_tokenizer.model"));
  auto gguf = load_tokenizer(shared_path("data/tokenizer/ggml-vocab-llama-spm.gguf"));
  EXPECT_EQ(file->hash(), gguf->hash());
  EXPECT_EQ(gguf->bos(), 1);
  EXPECT_TRUE(gguf->add_bos());
  auto other = load_tokenizer(shared_path("data/weights/stories260K-hf"));
  EXPECT_NE(other->hash(), file->hash());
  EXPECT_EQ(other->eos_ids(), Ids{2});
}

void expect_refused(const std::string& bytes, const std::string& word) {
  try {
    make_tokenizer(parse_sentencepiece_model(bytes, "sample"));
    FAIL() << "accepted; expected a refusal that names " << word;
  } catch (const Error& error) {
    EXPECT_EQ(error.fault(), Fault::bad_file);
    EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
  }
}

TEST(SentencePiece, RefusesWhatItCannotRead) {
  auto with = [](auto change) {
    test::SpmSample sample = test::spm_sample();
    change(sample);
    return sample.bytes();
  };
  using Sample = test::SpmSample;
  expect_refused("", "no pieces");
  expect_refused("PK\x03\x04 not a model", "not a SentencePiece model");
  expect_refused(with([](Sample& s) { s.model_type = 1; }), "unigram");
  expect_refused(with([](Sample& s) { s.model_type = 3; }), "word");
  expect_refused(with([](Sample& s) { s.charsmap = "x"; }), "precompiled_charsmap");
  expect_refused(with([](Sample& s) { s.pieces[262].text = s.pieces[261].text = "b"; }), "both");
  expect_refused(with([](Sample& s) { s.pieces.push_back({std::string(5000, 'x')}); }), "5000");
  expect_refused(with([](Sample& s) { s.pieces.push_back({""}); }), "empty");
  expect_refused(with([](Sample& s) { s.pieces.push_back({std::string(2, '\0')}); }), "zero byte");
  expect_refused(with([](Sample& s) { s.pieces[265].score = NAN; }), "score");
  expect_refused(with([](Sample& s) { s.pieces[265].score = INFINITY; }), "score");
  expect_refused(with([](Sample& s) { s.pieces[265].type = 9; }), "type 9");
  expect_refused(with([](Sample& s) { s.pieces[9].type = 1; }), "255 byte tokens");
  expect_refused(with([](Sample& s) { s.pieces[9].text = "<0xG1>"; }), "byte token");
}

TEST(SentencePiece, EveryCutIsRefusedOrSound) {
  std::string whole = test::spm_sample().bytes();
  for (size_t size = 0; size < whole.size(); size += 7) {
    try {
      auto tokenizer = make_tokenizer(parse_sentencepiece_model(whole.substr(0, size), "cut"));
      tokenizer->encode("the and é");
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
    }
  }
  // A length of 2^63 and a varint that never ends.
  expect_refused("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F", "beyond the end");
  expect_refused("\x0A" + std::string(20, '\xFF'), "beyond 64 bits");
}

}  // namespace
}  // namespace mullion
