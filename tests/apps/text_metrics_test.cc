// Metrics of written answers against the packages rouge, rouge-score and difflib, and the rules of
// L-Eval and LongBench against their own scripts (tools/make_metric_goldens.py).
#include "apps/llama/evaluation/text_metrics.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "apps/llama/evaluation/exam_answers.h"
#include "apps/llama/evaluation/longbench_sets.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

nlohmann::json golden(const std::string& name) {
  std::ifstream file(std::string(test::source_dir) + "/tests/golden/" + name);
  return nlohmann::json::parse(file);
}

TEST(TextMetrics, EqualThePackages) {
  const auto rows = golden("text_metrics.json");
  ASSERT_EQ(rows.size(), 200u);
  for (const auto& row : rows) {
    const auto answer = row["answer"].get<std::string>(), right = row["right"].get<std::string>();
    SCOPED_TRACE(row["answer"].dump() + " for " + row["right"].dump());
    EXPECT_EQ(plain_words(answer), row["plain"].get<std::vector<std::string>>());
    EXPECT_DOUBLE_EQ(word_f1(answer, right), row["f1"]);
    EXPECT_DOUBLE_EQ(rouge_l_of_summary(answer, right), row["rouge_l_of_summary"]);
    const Rouge rouge = rouge_of(answer, right);
    EXPECT_DOUBLE_EQ(rouge.one, row["rouge"][0]);
    EXPECT_DOUBLE_EQ(rouge.two, row["rouge"][1]);
    EXPECT_DOUBLE_EQ(rouge.l, row["rouge"][2]);
    EXPECT_DOUBLE_EQ(sequence_similarity(code_points(answer), code_points(right)),
                     row["similarity"]);
    EXPECT_DOUBLE_EQ(number_share(answer, "12"), row["twelves"]);
  }
}

TEST(TextMetrics, AnswersOfExamsAsLEvalReadsThem) {
  const auto all = golden("exam_answers.json");
  for (const auto& right : all["rights"])
    EXPECT_EQ(right_letters(right["right"]), right["letters"]) << right;
  for (size_t a = 0; a < all["answers"].size(); ++a) {
    const auto& row = all["answers"][a];
    const auto answer = row["answer"].get<std::string>();
    SCOPED_TRACE(row["answer"].dump());
    EXPECT_EQ(chosen_letters(answer, false), row["letter"]);
    EXPECT_EQ(chosen_letters(answer, true), row["letters"]);
    EXPECT_EQ(number_in(answer), row["number"]);
    EXPECT_EQ(plain_code(answer), row["code"]);
    EXPECT_EQ(judgement(answer), row["judgement"]);
    for (size_t r = 0; r < all["rights"].size(); ++r) {
      const auto right = all["rights"][r]["right"].get<std::string>();
      EXPECT_EQ(exact_match(answer, right), all["exact"][a][r]) << right;
      EXPECT_EQ(printed_value(answer, right), all["printed"][a][r]) << right;
    }
  }
}

TEST(TextMetrics, LongBenchAsItsScriptCounts) {
  const auto all = golden("longbench.json");
  const auto classes = all["classes"].get<std::vector<std::string>>();
  for (const auto& row : all["rows"]) {
    const auto set = std::find_if(longbench_sets().begin(), longbench_sets().end(),
                                  [&](const LongbenchSet& s) { return s.name == row["set"]; });
    ASSERT_NE(set, longbench_sets().end());
    EXPECT_DOUBLE_EQ(set->grade(row["answer"], row["right"], classes), row["score"]) << row;
  }
}

TEST(TextMetrics, BytesThatAreNoTextCountAsOneCharacterEach) {
  EXPECT_EQ(code_points("a\xFF\xE2\x82z"), U"a\uFFFD\uFFFD\uFFFDz");
  EXPECT_EQ(words_of("\xFF x\xC3"), (std::vector<std::string>{"\uFFFD", "x\uFFFD"}));
}

}  // namespace
}  // namespace mullion
