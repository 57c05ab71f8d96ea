// Token files: what is written comes back, LongLoRA's and llm.c's layouts are read, and a file
// with a wrong length, header, count or id is refused with the place of the fault.
#include "data/token_file.h"

#include <gtest/gtest.h>

#include <fstream>

#include "data/tokenizer.h"
#include "tensor/check.h"
#include "tests/data/tokenizer_samples.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

using Ids = std::vector<int32_t>;

class TokenFileTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = ::testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = std::filesystem::temp_directory_path() /
              ("mullion_token_file_" + name + std::to_string(::getpid()));
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::filesystem::path path(const std::string& name = "t.bin") const { return folder_ / name; }
  void put(const std::string& bytes) const { write_whole_file(path(), bytes); }
  std::string bytes() const { return read_whole_file(path(), 1 << 20); }

  void expect_refused(const std::string& word, const TokenFileOptions& options = {}) const {
    try {
      TokenFile file(path(), options);
      FAIL() << "accepted; expected a refusal that names " << word;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file);
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  }

  std::filesystem::path folder_;
};

std::string words(std::initializer_list<uint32_t> values, int width) {
  std::string out;
  for (uint32_t value : values) {
    for (int i = 0; i < width; ++i) out += static_cast<char>(value >> (8 * i));
  }
  return out;
}

std::string with_header(std::initializer_list<uint32_t> header, const std::string& data) {
  std::string out = words(header, 4);
  out.resize(1024, '\0');
  return out + data;
}

TEST_F(TokenFileTest, WrittenTokensComeBack) {
  for (TokenWidth width : {TokenWidth::u16, TokenWidth::u32}) {
    for (bool header : {true, false}) {
      Ids ids;
      for (int i = 0; i < 200'000; ++i) ids.push_back(i * 31 % 65000);
      TokenFileNotes notes;
      notes.tokenizer_sha256 = "abc";
      notes.bos = true;
      TokenFileWriter writer(path(), width, notes, header);
      writer.begin_document();
      writer.append(std::span(ids).first(70'000));
      writer.begin_document();
      writer.begin_document();  // an empty one
      writer.append(std::span(ids).subspan(70'000));
      writer.begin_document();
      EXPECT_FALSE(exists(path("none")));
      writer.finish();

      TokenFileOptions options;
      options.vocab_size = 65000;
      if (!header) options.width = width;
      TokenFile file(path(), options);
      EXPECT_EQ(file.size(), ids.size());
      EXPECT_EQ(file.has_header(), header);
      EXPECT_EQ(file.width(), width);
      EXPECT_TRUE(file.read(0, ids.size()) == ids);
      EXPECT_EQ(file.read(199'998, 2), (Ids{ids[199'998], ids[199'999]}));
      EXPECT_EQ(file.read(200'000, 0), Ids{});
      EXPECT_THROW(file.read(199'999, 2), Error);
      EXPECT_THROW(file.read(UINT64_MAX, 2), Error);
      EXPECT_EQ(file.notes().documents, (std::vector<uint64_t>{0, 70'000}));
      EXPECT_EQ(file.notes().tokenizer_sha256, "abc");
      EXPECT_TRUE(file.notes().bos);
    }
  }
}

TEST_F(TokenFileTest, AnAbandonedWriterLeavesTheOldFile) {
  put("old!");
  {
    TokenFileWriter writer(path(), TokenWidth::u16);
    writer.append(Ids{1, 2, 3});
    EXPECT_THROW(writer.append(Ids{65536}), Error);
    EXPECT_THROW(writer.append(Ids{-1}), Error);
  }
  EXPECT_EQ(bytes(), "old!");
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(TokenFileTest, ReadsTheLayoutOfLlmC) {
  put(with_header({20240520, 1, 3}, words({7, 50256, 9}, 2)));
  EXPECT_EQ(TokenFile(path()).read(0, 3), (Ids{7, 50256, 9}));
  put(with_header({20240801, 7, 2}, words({128000, 9}, 4)));
  EXPECT_EQ(TokenFile(path()).read(0, 2), (Ids{128000, 9}));
  EXPECT_EQ(TokenFile(path()).max_id(), 128000u);
}

TEST_F(TokenFileTest, RefusesWrongSizesAndHeaders) {
  put("");
  expect_refused("empty");
  put("abc");
  expect_refused("3 bytes", {.width = TokenWidth::u16, .vocab_size = 0});
  put(words({1, 2, 3}, 2));
  expect_refused("no header");  // never a guess: bytes of any kind look like ids
  put("\x93NUMPY\x01" + std::string(121, ' '));
  expect_refused("NumPy", {.width = TokenWidth::u16, .vocab_size = 0});
  put(words({1, 2, 3}, 2));
  expect_refused("6 bytes", {.width = TokenWidth::u32, .vocab_size = 0});
  const std::string three = words({1, 2, 3}, 2);
  put(with_header({20240520, 1, 3}, three).substr(0, 600));
  expect_refused("cut within the header");
  put(with_header({20240520, 2, 3}, three));
  expect_refused("version 2");
  put(with_header({20240801, 1, 3}, words({1, 2, 3}, 4)));
  expect_refused("version 1");
  put(with_header({20240520, 1, 4}, three));
  expect_refused("says 4");
  put(with_header({20240520, 1, 3}, three + "x"));
  expect_refused("7 bytes");
  put(with_header({20240801, 7, 3}, three));  // u16 ids behind a u32 header
  expect_refused("6 bytes");
  put(with_header({20240520, 1, 3, 0, 4, 0}, three));
  expect_refused("4 tokens");
  put(with_header({20240520, 1, 0x7FFFFFFF, 0, 0, 0x80000000}, three));  // 2^63 tokens
  expect_refused("9223372036854775808");
  put(with_header({0x88D83401, 0x01000000, 0x03000000}, three));
  expect_refused("big-endian");
  put(with_header({20240520, 1, 3}, three));
  expect_refused("u16", {.width = TokenWidth::u32, .vocab_size = 0});
}

TEST_F(TokenFileTest, AnIdOutsideTheVocabularyIsNamedWithItsPlace) {
  const size_t count = 70'000;
  for (size_t at : {size_t{0}, count / 2, count - 1}) {
    std::string data(2 * count, '\0');
    data[2 * at] = static_cast<char>(200);
    put(with_header({20240520, 1, static_cast<uint32_t>(count)}, data));
    expect_refused(concat("token ", at, " (byte ", 1024 + 2 * at, ") is 200"),
                   {.width = {}, .vocab_size = 200});
    EXPECT_EQ(TokenFile(path(), {.width = {}, .vocab_size = 201}).max_id(), 200u);
  }
  put(with_header({20240801, 7, 1}, words({0x80000000}, 4)));
  expect_refused("2147483648");
}

TEST_F(TokenFileTest, TheSideFileMustFit) {
  const TokenFileOptions u16{.width = TokenWidth::u16, .vocab_size = 0};
  put(words({1, 2, 3, 4}, 2));
  auto side = [&](const std::string& text) { write_whole_file(token_side_file(path()), text); };
  const std::string begin = R"({"format":"mullion-tokens","version":1,"tokens":)";
  side(begin + R"(4,"documents":[0,2]})");
  EXPECT_EQ(TokenFile(path(), u16).notes().documents.size(), 2u);
  side(begin + "5}");
  expect_refused("says 5 tokens", u16);
  side(begin + R"(4,"documents":[0,4]})");
  expect_refused("documents", u16);
  side(begin + R"(4,"documents":[0,2,2]})");
  expect_refused("ascend", u16);
  side(begin + R"(4,"documents":[1]})");
  expect_refused("ascend", u16);
  side(begin + R"(4,"tokens":4})");
  expect_refused("duplicate", u16);
  side("[]");
  expect_refused("side file", u16);
}

TEST_F(TokenFileTest, AnotherTokenizerIsRefused) {
  auto tokenizer = make_tokenizer(parse_tokenizer_json(test::json_sample().dump(), "sample"));
  TokenFileNotes notes;
  notes.tokenizer_sha256 = tokenizer->hash();
  TokenFileWriter writer(path(), TokenWidth::u16, notes);
  writer.append(tokenizer->encode("the text"));
  writer.finish();
  TokenFile(path()).require_tokenizer(*tokenizer);
  auto other = make_tokenizer(parse_sentencepiece_model(test::spm_sample().bytes(), "sample"));
  EXPECT_THROW(TokenFile(path()).require_tokenizer(*other), Error);
  put(words({9999}, 2));
  std::filesystem::remove(token_side_file(path()));
  const TokenFile headerless(path(), {.width = TokenWidth::u16, .vocab_size = 0});
  EXPECT_THROW(headerless.require_tokenizer(*tokenizer), Error);
}

TEST_F(TokenFileTest, AFileThatShrinksIsAnError) {
  put(words({1, 2, 3, 4}, 2));
  TokenFile file(path(), {.width = TokenWidth::u16, .vocab_size = 0});
  std::filesystem::resize_file(path(), 4);
  EXPECT_THROW(file.read(0, 4), Error);
}

TEST_F(TokenFileTest, ReadsLongLoraBooks) {
  REQUIRE_SHARED("data/text/tokens/pg19_test5_llama2.bin");
  TokenFile file(test::shared_path("data/text/tokens/pg19_test5_llama2.bin"),
                 {.width = TokenWidth::u16, .vocab_size = 32000});
  EXPECT_EQ(file.size(), 342662u);
  EXPECT_EQ(file.read(119154, 1), Ids{1});  // BOS of the third book
}

}  // namespace
}  // namespace mullion
