// Questions in the made-up language.
#include <gtest/gtest.h>

#include <cmath>

#include "tensor/check.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

class MadeUp : public test::Programs {
 protected:
  MadeUp() : Programs({"data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    result(
        "data_llama lexicon --rows 1 --length 8 --output t.bin --model-dir m --heads 4 --words "
        "spaced --json");
  }
  std::vector<nlohmann::json> rows(const std::string& file) const {
    std::vector<nlohmann::json> list;
    const std::string text = test::contents(at(file));
    for (size_t begin = 0, end = 0; (end = text.find('\n', begin)) != text.npos; begin = end + 1)
      list.push_back(nlohmann::json::parse(text.substr(begin, end - begin)));
    return list;
  }
};

size_t times(const std::string& text, const std::string& part) {
  size_t count = 0;
  for (size_t i = text.find(part); i != text.npos; i = text.find(part, i + 1)) ++count;
  return count;
}

TEST_F(MadeUp, TheAskedKeyStandsOnceAtItsDepthBeforeItIsAskedFor) {
  result("data_llama lookups -m m -o q --pairs 20,150 --count 30 --depth 0.5 --json");
  for (const size_t pairs : {20, 150}) {
    const auto list = rows(concat("q/", pairs, "_topics.jsonl"));
    ASSERT_EQ(list.size(), 30u);
    for (const nlohmann::json& row : list) {
      const std::string prompt = row.at("prompt"), value = row.at("topics").at(0);
      const std::string key = prompt.substr(prompt.size() - 4);  // " ba:"
      EXPECT_EQ(prompt.size(), pairs * 7 + 4);
      EXPECT_EQ(times(prompt, key), 2u) << prompt;
      const auto place = static_cast<size_t>(std::llround(0.5 * static_cast<double>(pairs - 1)));
      EXPECT_EQ(prompt.find(key + value), place * 7) << prompt;
    }
  }
}

TEST_F(MadeUp, ChoicesAreValuesOfTheDocumentOneOfThemRight) {
  result("data_llama lookups -m m -o q --pairs 30 --count 20 --format choice --json");
  for (const nlohmann::json& row : rows("q/30_choice.jsonl")) {
    const std::string stem = row.at("question").at("stem"), key = row.at("answerKey");
    size_t right = 0;
    for (const nlohmann::json& choice : row.at("question").at("choices")) {
      const std::string text = choice.at("text");
      const bool stands = stem.find(" " + text) != stem.npos;
      EXPECT_EQ(stands, choice.at("label") == key) << stem << " / " << text;
      EXPECT_NE(stem.find(text.substr(3)), stem.npos);
      right += stands;
    }
    EXPECT_EQ(right, 1u);
  }
}

TEST_F(MadeUp, WhatDoesNotFitIsRefused) {
  refused("data_llama lookups -m m -o q --choices 3", 2, {"--choices", "--format choice"});
  refused("data_llama lookups -m m -o q --pairs 3 --format choice --choices 9", 2,
          {"--choices 9", "3 pairs"});
  refused("data_llama lexicon --rows 1 --output u.bin --heads 4", 2, {"--heads", "--model-dir"});
  result("data_llama lexicon --rows 1 --length 8 --output t.bin --model-dir tight --json");
  refused("data_llama lookups -m tight -o q", 2, {"tight", "--words spaced"});
}

}  // namespace
}  // namespace mullion
