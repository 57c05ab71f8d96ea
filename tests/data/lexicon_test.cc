// The demo's language is what it says: a map that holds within a document, a chain all share.
#include "data/lexicon.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>

#include "data/tokenizer.h"

namespace mullion {
namespace {

std::vector<int32_t> document(const Lexicon& lexicon, uint64_t number, size_t length) {
  std::vector<int32_t> ids(length);
  lexicon.document(number, ids);
  return ids;
}

TEST(Lexicon, AMapHoldsWithinItsDocumentAlone) {
  const Lexicon lexicon(1);
  int64_t same = 0, compared = 0;
  std::map<int32_t, int32_t> earlier;
  for (uint64_t number = 0; number < 50; ++number) {
    const auto ids = document(lexicon, number, 513);
    ASSERT_EQ(ids[0], kLexiconBos);
    std::map<int32_t, int32_t> value_of, key_of;
    for (size_t i = 1; i + 1 < ids.size(); i += 2) {
      const int32_t key = ids[i], value = ids[i + 1];
      ASSERT_TRUE(key >= 0 && key < kLexiconKeys);
      ASSERT_TRUE(value >= kLexiconKeys && value < kLexiconBos);
      EXPECT_EQ(value_of.try_emplace(key, value).first->second, value);
      EXPECT_EQ(key_of.try_emplace(value, key).first->second, key);
    }
    for (const auto& [key, value] : value_of) {
      if (auto before = earlier.find(key); before != earlier.end()) {
        ++compared;
        same += before->second == value;
      }
    }
    earlier = value_of;
  }
  EXPECT_LT(static_cast<double>(same) / static_cast<double>(compared), 0.03);
}

TEST(Lexicon, KeysFollowTheChain) {
  const Lexicon lexicon(2);
  int64_t chained = 0, steps = 0;
  for (uint64_t number = 0; number < 100; ++number) {
    const auto ids = document(lexicon, number, 513);
    for (size_t i = 1; i + 2 < ids.size(); i += 2, ++steps) {
      const auto& next = lexicon.successors()[static_cast<size_t>(ids[i])];
      chained += std::count(next.begin(), next.end(), ids[i + 2]) > 0;
    }
  }
  // 0.85, and about 3/96 of the surprises fall on a successor.
  EXPECT_NEAR(static_cast<double>(chained) / static_cast<double>(steps), 0.85 + 0.15 / 32, 0.01);
}

TEST(Lexicon, RepeatsReturnToTheDocumentsOwnKeys) {
  const Lexicon lexicon(2);
  std::vector<int32_t> ids(65);
  std::map<int32_t, int32_t> value_of;
  for (uint64_t number = 0; number < 20; ++number) {
    value_of.clear();
    lexicon.document(number, ids, 1);  // nothing but repeats: one pair, over and over
    for (size_t i = 1; i < ids.size(); ++i) EXPECT_EQ(ids[i], ids[(i - 1) % 2 + 1]);
    lexicon.document(number, ids, 0.5F);
    for (size_t i = 1; i < ids.size(); i += 2) {
      EXPECT_EQ(value_of.try_emplace(ids[i], ids[i + 1]).first->second, ids[i + 1]);
    }
    // Half of the 31 later pairs at least are repeats; the chain alone gives fewer than eight.
    EXPECT_LT(value_of.size(), 26U);
  }
}

TEST(Lexicon, SameNumbersForAnyLength) {
  const Lexicon lexicon(3);
  const auto longer = document(lexicon, 7, 512), shorter = document(lexicon, 7, 128);
  EXPECT_TRUE(std::equal(shorter.begin(), shorter.end(), longer.begin()));
  EXPECT_NE(document(lexicon, 8, 128), shorter);
  EXPECT_NE(document(Lexicon(4), 7, 128), shorter);
}

TEST(Lexicon, ReadsAndWritesItself) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("mullion_lexicon_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  write_lexicon_tokenizer(folder);
  const auto tokenizer = load_tokenizer(folder);
  std::filesystem::remove_all(folder);
  EXPECT_EQ(tokenizer->vocab_size(), kLexiconVocab);
  EXPECT_EQ(tokenizer->bos(), kLexiconBos);
  EXPECT_TRUE(tokenizer->add_bos());
  const auto ids = document(Lexicon(5), 0, 129);
  const std::string text = tokenizer->decode(ids);
  EXPECT_EQ(text.size(), 64 * 6u);  // "ba=KO "
  EXPECT_EQ(tokenizer->encode(text, {.bos = true}), ids);
}

}  // namespace
}  // namespace mullion
