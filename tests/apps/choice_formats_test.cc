// Tasks of several answers in the forms that their files have: WinoGrande of Hugging Face and of
// LLM-Adapters, COPA's JSON and XML.
#include "apps/llama/evaluation/choice_format.h"

#include "apps/llama/evaluation/choice_score.h"
#include "models/llama/load.h"
#include "tensor/io/file.h"
#include "tests/apps/byte_tokenizer.h"
#include "tests/apps/temporary_run.h"
#include "tests/shared_data.h"
#include "tests/small_llama_config.h"

namespace mullion {
namespace {

class ChoiceFormats : public ::testing::Test {
 protected:
  std::vector<ChoiceQuestion> read(const std::string& task, const std::string& name,
                                   const std::string& text) const {
    write_whole_file(folder_.path() / name, text);
    return read_choice_questions(task, folder_.path() / name);
  }
  void refused(const std::string& task, const std::string& name, const std::string& text,
               const std::vector<std::string>& words) const {
    try {
      read(task, name, text);
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::bad_file) << error.what();
      const std::string what = error.what();
      for (const std::string& word : words)
        EXPECT_NE(what.find(word), std::string::npos) << word << ": " << what;
    }
  }
  test::TemporaryRun folder_;
};

constexpr const char* kSentence = "Sarah was better than Maria so _ got the easier cases.";

// The fields of both files, and lm-eval's texts of them: each option in the place of the blank, and
// the rest of the sentence to be scored.
TEST_F(ChoiceFormats, WinograndeScoresTheRestBehindEachOption) {
  const std::string official =
      "{\"sentence\": \"" + std::string(kSentence) +
      "\", \"option1\": \"Sarah\", \"option2\": \"Maria\", \"answer\": \"2\"}\n";
  const std::string adapters =
      "[{\"instruction\": \"Please choose the correct answer to fill in the blank to complete the "
      "given sentence: " +
      std::string(kSentence) +
      "\\n\\nOption1: Sarah Option2: Maria Answer format: option1/option2\", \"input\": \"\", "
      "\"output\": \"the correct answer is option2\", \"answer\": \"option2\"}]";
  for (const auto& rows :
       {read("winogrande", "a.jsonl", official), read("winogrande", "b.json", adapters)}) {
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].texts, (std::vector<std::string>{"Sarah was better than Maria so Sarah",
                                                       "Sarah was better than Maria so Maria"}));
    EXPECT_EQ(rows[0].choices,
              (std::vector<std::string>{"got the easier cases.", "got the easier cases."}));
    EXPECT_EQ(rows[0].answer, 1);
    EXPECT_EQ(few_shot_text(rows, 1, "b.json"),
              "Sarah was better than Maria so Maria got the easier cases.\n\n");
  }
  refused("winogrande", "a.jsonl",
          "{\"sentence\": \"no blank\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}",
          {"a.jsonl: line 1", "sentence", "_"});
  refused("winogrande", "a.jsonl",
          "{\"sentence\": \"a _\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"1\"}",
          {"line 1", "nothing follows"});
  refused("winogrande", "a.jsonl",
          "{\"sentence\": \"a _ b\", \"option1\": \"\", \"option2\": \"b\", \"answer\": \"1\"}",
          {"line 1", "option1 is empty"});
  refused("winogrande", "a.jsonl",
          "{\"sentence\": \"a _ b\", \"option1\": \"a\", \"option2\": \"b\", \"answer\": \"3\"}",
          {"line 1", "answer"});
  refused("winogrande", "a.jsonl", "{\"instruction\": \"what\", \"answer\": \"option1\"}",
          {"line 1", "instruction"});
}

// What is scored behind texts that differ is what is scored behind each of them alone.
TEST_F(ChoiceFormats, TextsThatDifferAreScoredEachBehindItsOwn) {
  const auto tokenizer = test::byte_tokenizer();
  Llama model(test::small_llama_config(8, 260));
  model.initialize(3);
  const auto rows = read("winogrande", "a.jsonl",
                         "{\"sentence\": \"x _ y z\", \"option1\": \"one\", \"option2\": \"b\", "
                         "\"answer\": \"1\"}\n");
  for (const char* kind : {"full", "h2o", "local"}) {
    KvCacheOptions cache;
    cache.kind = kind;
    if (kind != std::string("full")) cache.budget_tokens = 4;
    ChoiceScorer scorer(model, *tokenizer, cache, "shots\n\n");
    const auto both = scorer(rows);
    for (size_t i = 0; i < 2; ++i) {
      const ChoiceQuestion alone{.id = "0",
                                 .text = rows[0].texts[i],
                                 .texts = {},
                                 .choices = {rows[0].choices[i]},
                                 .answer = 0,
                                 .json = "{}"};
      ChoiceScorer fresh(model, *tokenizer, cache, "shots\n\n");
      EXPECT_NEAR(both[0].sum[i], fresh(std::span(&alone, 1))[0].sum[0], 1e-5) << describe(cache);
    }
  }
}

TEST_F(ChoiceFormats, CopasXmlHasTheQuestionsOfItsJson) {
  const std::string head = "<?xml version=\"1.0\"?>\n<!DOCTYPE copa-corpus SYSTEM \"copa.dtd\">\n";
  const std::string item =
      "  <item id=\"7\" asks-for=\"effect\" most-plausible-alternative=\"2\">\n"
      "    <p>The man&apos;s toe &amp; foot broke.</p><!-- <p> -->\n    <a1>He sang.</a1>\n"
      "    <a2>It hurt.</a2>\n  </item>\n";
  const auto xml =
      read("copa", "a.xml", head + "<copa-corpus  version=\"1.0\">\n" + item + "</copa-corpus>\n");
  const auto json = read("copa", "a.jsonl",
                         "{\"id\": \"7\", \"premise\": \"The man's toe & foot broke.\", "
                         "\"question\": \"effect\", \"choice1\": \"He sang.\", \"choice2\": \"It "
                         "hurt.\", \"label\": 1}");
  for (const auto& rows : {xml, json}) {
    ASSERT_EQ(rows.size(), 1u);
    EXPECT_EQ(rows[0].id, "7");
    EXPECT_EQ(rows[0].text, "The man's toe & foot broke therefore");
    EXPECT_EQ(rows[0].choices, (std::vector<std::string>{" he sang.", " it hurt."}));
    EXPECT_EQ(rows[0].answer, 1);
  }
  const auto bad = [&](const std::string& what, const std::vector<std::string>& words) {
    refused("copa", "a.xml", head + "<copa-corpus>\n" + what, words);
  };
  bad("<item id=\"1\" most-plausible-alternative=\"1\"></item>", {"a.xml: line 4", "asks-for"});
  bad("<item id=\"1\" asks-for=\"cause\" most-plausible-alternative=\"3\">", {"line 4", "3"});
  bad("<item id=\"1\" asks-for=\"cause\" most-plausible-alternative=\"1\"><p>a.</p></item>",
      {"line 4", "choice1"});
  bad("<item id=\"1\" asks-for=\"why\" most-plausible-alternative=\"1\"><p>a.</p><a1>b</a1>"
      "<a2>c</a2></item>",
      {"line 4", "question", "why"});
  bad("<item id=1>", {"line 4", "NAME=\"VALUE\""});
  bad("<items/>", {"line 4", "items"});
  bad(item + item + "</copa-corpus>", {"id: 7", "line 4"});
  bad("", {"</copa-corpus>"});
  bad("</copa-corpus>", {"no items"});
  bad("<item id=\"&x;\">", {"&x;"});
  EXPECT_THROW(read("piqa", "a.xml", head), Error);
}

TEST_F(ChoiceFormats, RealFilesAreReadWhole) {
  REQUIRE_SHARED("data/commonsense");
  const auto folder = test::shared_path("data/commonsense");
  const auto wino = read_choice_questions("winogrande", folder / "winogrande_test.json");
  EXPECT_EQ(wino.size(), 1267u);
  EXPECT_EQ(wino[0].texts[1], "Sarah was a much better surgeon than Maria so Maria");
  EXPECT_EQ(wino[0].answer, 1);
  const auto copa = read_choice_questions("copa", folder / "balanced-copa-dev-all.xml");
  EXPECT_EQ(copa.size(), 1000u);
  EXPECT_EQ(copa[0].text, "My body cast a shadow over the grass because");
  EXPECT_EQ(copa[4].answer, 1);
}

}  // namespace
}  // namespace mullion
