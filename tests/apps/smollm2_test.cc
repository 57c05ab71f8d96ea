// The programs on a real model, SmolLM2-135M: values by transformers 4.51.3 in f32, from the
// weights that tools/smollm2_to_hf.py makes of the same GGUF file.
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/shared_data.h"

namespace mullion {
namespace {

constexpr const char* kText =
    "A mullion is the bar between the panes of a window. The carpenter who fits one thinks first "
    "of "
    "the\nlight: where the sun stands in the morning, how far the sill reaches into the room, "
    "which "
    "of the panes\nwill be opened in summer. Only then does she measure the frame. In 1893 the "
    "builders of this house put\ntwelve panes into each window; eleven of them are still the old "
    "glass, slightly uneven, so that the\ngarden seems to move when one walks past. \"Do not "
    "replace "
    "them,\" said the owner, \"they are the oldest\nthings here.\" So the new bars were cut to the "
    "old glass and not the other way round, and the work took\nthree weeks instead of one.\n";

class SmolLM2 : public test::Programs {
 protected:
  SmolLM2() : Programs({"eval_llama", "chat_llama"}) {}
  const std::string stored_ =
      " --json --threads 2 --model '" + test::smollm2_path().string() + "' ";
  const std::string model_ = stored_ + "--weights f32 ";  // as transformers has them
};

TEST_F(SmolLM2, PerplexityEqualsTransformers) {
  REQUIRE_SMOLLM2();
  write_whole_file(at("text.txt"), kText);
  const auto got = result("eval_llama ppl --data text.txt --ctx-size 96 --stride 32" + model_);
  EXPECT_EQ(got["tokens"], 95);
  EXPECT_NEAR(got["nll"].get<double>(), 3.9787759, 4e-5);
}

TEST_F(SmolLM2, GreedyTextEqualsTransformers) {
  REQUIRE_SMOLLM2();
  const auto got =
      result("chat_llama complete -p 'The capital of France is' -n 12 --temp 0" + model_);
  EXPECT_EQ(got["text"], " Paris.\n\nThe answer is: 201");
}

// A prompt meets the exact values of weights that stay as they are stored: the first token is that
// of transformers. Decoding rounds, alone as beside others.
TEST_F(SmolLM2, StoredWeightsAnswerAloneAsBesideOthers) {
  REQUIRE_SMOLLM2();
  std::string rows;
  for (const std::string capital :
       {"France", "Italy", "Spain", "Norway", "Kenya", "Peru", "Japan", "Greece", "Egypt"})
    rows += R"({"prompt": "The capital of )" + capital + " is\"}\n";
  write_whole_file(at("capitals.jsonl"), rows);
  const std::string call = "chat_llama complete --jsonl capitals.jsonl -n 6 --temp 0" + stored_;
  const auto alone = result(call + "--parallel 1 -o alone.jsonl");
  const auto together = result(call + "--parallel 9 -o together.jsonl");
  EXPECT_EQ(test::contents(at("alone.jsonl")), test::contents(at("together.jsonl")));
  EXPECT_NE(test::contents(at("alone.jsonl")).find("\"text\":\" Paris."), std::string::npos);
}

// Three turns as transformers renders and answers them, greedily; each costs its own tokens.
TEST_F(SmolLM2, ConversationEqualsTransformers) {
  REQUIRE_SMOLLM2();
  const auto got = result(
      "printf 'What is the capital of France?\\nName three rivers of Europe.\\nAnd one in "
      "Africa?\\n/debug\\n' | chat_llama chat -n 24 --temp 0" +
      model_);
  const auto& answers = got["answers"];
  ASSERT_EQ(answers.size(), 3u);
  EXPECT_EQ(answers[0]["text"], "The capital of France is Paris.");
  EXPECT_EQ(answers[1]["text"],
            "The three rivers of Europe are the Rhine, the Danube, and the English Channel.");
  EXPECT_EQ(answers[2]["text"],
            "The Nile, which is the longest river in the world, is also a tributary of the Nile in "
            "Africa.");
  // transformers' prompts have 37, 61 and 94 tokens; the answers are seen already.
  EXPECT_EQ(answers[0]["fed"], 37);
  EXPECT_EQ(answers[1]["fed"], 61 - 37 - answers[0]["tokens"].get<int>());
  EXPECT_EQ(answers[2]["fed"], 94 - 61 - answers[1]["tokens"].get<int>());
  EXPECT_EQ(got["again"], 0);
}

}  // namespace
}  // namespace mullion
