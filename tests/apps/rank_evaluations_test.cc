// Evaluations over ranks: the samples and figures of one process, whatever the number of ranks; a
// stopped call goes on with another number; a suite over ranks.
#include <algorithm>
#include <filesystem>

#include "tensor/io/file.h"
#include "tests/apps/byte_llama.h"
#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class RankEvaluations : public test::RankPrograms {
 protected:
  RankEvaluations() : RankPrograms({"eval_llama", "eval_tic", "train_tic"}) {}
  void SetUp() override {
    RankPrograms::SetUp();
    if (IsSkipped()) return;
    test::write_byte_llama(at("m"), *test::byte_tokenizer(), 2048);
    std::string questions, lines;
    for (int i = 0; i < 11; ++i) {
      const std::string number = std::to_string(7 * i);
      questions +=
          R"({"id": "r)" + number + R"(", "question": {"stem": "stem )" + number +
          R"(", "choices": [{"text": "one", "label": "A"}, {"text": "another", "label": "B"}]},)" +
          R"( "answerKey": ")" + "AB"[i % 2] + "\"}\n";
      lines += R"({"prompt": "line )" + number + R"( is?", "expected_number": )" + number + "}\n";
    }
    write_whole_file(at("q.jsonl"), questions);
    // In a folder of their own: a stopped call does not go on where files beside them have changed.
    fs::create_directories(at("lines"));
    write_whole_file(at("lines/2_lines.jsonl"), lines);
    write_whole_file(at("lines/3_lines.jsonl"), lines);
  }

  // The result without what is of a clock or a place.
  static json facts(json result) {
    if (result.contains("results") && result["results"].is_array())
      for (json& row : result["results"]) row.erase("tok_s");
    result.erase("file");
    return result;
  }
  // The samples that a call with --output FOLDER has left, and whether it left nothing unfinished.
  std::string samples(const std::string& folder) const {
    std::string text;
    for (const auto& entry : fs::recursive_directory_iterator(at(folder))) {
      const std::string name = entry.path().filename().string();
      EXPECT_EQ(name.find(".part."), std::string::npos) << name;
      if (name.starts_with("samples_")) text += test::contents(entry.path());
    }
    return text;
  }
  void same_for_any_number_of_ranks(const std::string& command) const {
    const json one = started(1, command + " --output one").json();
    for (const int n : {2, 3}) {
      const std::string folder = std::to_string(n);
      EXPECT_EQ(facts(one), facts(started(n, command + " --output " + folder).json())) << command;
      EXPECT_EQ(samples("one"), samples(folder)) << command;
    }
    EXPECT_FALSE(samples("one").empty());
  }
  const std::string lines_ =
      "eval_llama lines -m m --data lines --lines 2,3 --max-tokens 5 -b 2 --threads 1 --json ";
};

TEST_F(RankEvaluations, ChoicesAreThoseOfOneProcess) {
  same_for_any_number_of_ranks(
      "eval_llama choice -m m --task openbookqa --data q.jsonl --kv full,h2o --kv-budget 8 -b 2 "
      "--num-fewshot 2 --fewshot-data q.jsonl --threads 1 --json");
}

TEST_F(RankEvaluations, WrittenAnswersAreThoseOfOneProcess) {
  same_for_any_number_of_ranks(lines_);
}

TEST_F(RankEvaluations, PasskeysAreThoseOfOneProcess) {
  const std::string passkey =
      "eval_llama passkey -m m --interval 280 --max-tokens 280 --trials 2 --depth 0,50,100 "
      "--threads 1 --json ";
  const json one = started(1, passkey + "--csv one").json();
  EXPECT_EQ(one, started(4, passkey + "--csv four").json());
  EXPECT_EQ(test::contents(at("one")), test::contents(at("four")));
}

// Each rank in a folder of its own: what makes ids of texts, what answers are judged by, and what
// ends them.
TEST_F(RankEvaluations, WhatIsAskedAndJudgedMustBeTheSame) {
  for (const char* folder : {"r0", "r1"}) {
    fs::create_directories(at(folder));
    for (const char* name : {"m", "q.jsonl", "lines", "val.bin"})
      fs::copy(at(name), at(folder) / name, fs::copy_options::recursive);
  }
  const auto both_refuse = [&](const std::string& command, const std::string& words) {
    const Ranks ranks = start(2, "env -C r$R " + command);
    EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0] << ranks.logs[1];
    EXPECT_NE(ranks.logs[0].find(words), std::string::npos) << ranks.logs[0];
  };
  const auto replace = [&](const std::string& file, const std::string& a, const std::string& b) {
    std::string text = test::contents(at("r1") / file);
    const size_t place = text.find(a);
    ASSERT_NE(place, std::string::npos) << file << ": " << a;
    write_whole_file(at("r1") / file, text.replace(place, a.size(), b));
  };
  const std::string choice = "eval_llama choice -m m --task openbookqa --data q.jsonl --threads 1",
                    passkey = "eval_llama passkey -m m --interval 280 --max-tokens 280 --threads 1";
  replace("lines/2_lines.jsonl", R"("expected_number": 7)", R"("expected_number": 8)");
  both_refuse(lines_, "in lines's answers: ");
  replace("lines/2_lines.jsonl", R"("expected_number": 8)", R"("expected_number": 7)");
  started(2, "env -C r$R " + lines_);
  write_whole_file(at("r1/m/generation_config.json"), R"({"eos_token_id": [65]})");
  both_refuse(lines_, "in ids that end a text: ");
  fs::remove(at("r1/m/generation_config.json"));
  started(2, "env -C r$R " + passkey);
  write_whole_file(
      at("r1/m/tokenizer_config.json"),
      R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": true, "bos_token": "<|end|>"})");
  both_refuse(choice, "in tokenizer: ");
  both_refuse(passkey, "in tokenizer: ");
  both_refuse("eval_llama ppl -m m --data val.bin --protocol llamacpp --ctx-size 64 --threads 1",
              "in BOS: ");
}

TEST_F(RankEvaluations, AStoppedCallGoesOnWithAnotherNumberOfRanks) {
  started(1, lines_ + "--output whole");
  // Stopped while it has found some of the 22 samples; on a machine that is too quick, whole.
  const auto stopped =
      start(2, lines_ + "--output part",
            "while kill -0 $p1 2>/dev/null && ! grep -q doc_id part/m/*.part.jsonl 2>/dev/null; "
            "do sleep 0.002; done; kill -TERM $p1 2>/dev/null");
  EXPECT_EQ(stopped.codes[0], stopped.codes[1]) << stopped.logs[0] << stopped.logs[1];
  if (stopped.codes[0] == 75) {
    const auto more = started(3, lines_ + "--output part");
    EXPECT_NE(more.logs[0].find(": goes on after "), std::string::npos) << more.logs[0];
  }
  EXPECT_EQ(samples("whole"), samples("part"));
}

// A signal to one rank, and the end of one, are known to all a batch later: each rank's share is
// more than the time that a program has here.
TEST_F(RankEvaluations, NoRankGoesOnAlone) {
  test::write_lexicon_tokens(at("long.bin"), 16000);
  const std::string ppl =
      "eval_llama ppl -m base --data long.bin --ctx-size 64 --stride 1 --threads 1 --json ";
  const std::string sliding = ppl + "--protocol sliding ";
  const std::string tic =
      "eval_tic --data-dir cue --cue-count 10000000 --checkpoint runs/tic -b 1 --threads 1 --json ";
  started(1,
          "train_tic --data-dir cue --model tic-n --msa-kernel 3 --img-size 32 --output runs "
          "--threads 1 -b 1 --cue-count 2 --max-steps 1 --warmup-epochs 0 --workers 1 --name tic");
  // Under way: the model is there, and what is scored has been compared.
  const std::string under_way =
      "while kill -0 $p0 2>/dev/null && ! grep -qE 'context 64|eval 32' log0; do sleep 0.05; done; "
      "sleep 0.5; ";
  for (const std::string& command : {ppl, sliding, tic}) {
    const Ranks term = start(2, command, under_way + "kill -TERM $p1");
    EXPECT_EQ(term.codes, (std::vector<int>{75, 75})) << command << term.logs[0];
    const Ranks dead = start(2, command, under_way + "kill -KILL $(pgrep -P $p1)");
    EXPECT_EQ(dead.codes[0], 7) << command << dead.logs[0];
    EXPECT_NE(dead.logs[0].find("rank 1 of 2 (node "), std::string::npos) << dead.logs[0];
  }
}

TEST_F(RankEvaluations, QuestionsThatDifferAreNamed) {
  for (const char* folder : {"r0", "r1"}) {
    fs::create_directory(at(folder));
    fs::copy(at("lines/2_lines.jsonl"), at(folder) / "2_lines.jsonl");
  }
  write_whole_file(at("r1/2_lines.jsonl"), "{\"prompt\": \"x\", \"expected_number\": 1}\n");
  const Ranks ranks =
      start(2, "env -C r$R eval_llama lines -m ../m --data . --lines 2 --max-tokens 5 --threads 1");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("in lines's prompts: "), std::string::npos) << ranks.logs[0];
}

TEST_F(RankEvaluations, ASuiteIsThatOfOneProcess) {
  write_whole_file(
      at("suite.toml"),
      "[choices]\nverb = \"choice\"\ntask = \"openbookqa\"\ndata = \"DATA/q.jsonl\"\n"
      "[lines]\nverb = \"lines\"\ndata = \"DATA/lines\"\nlines = [2]\nmax-tokens = 4\n");
  const std::string all =
      "eval_llama all -m m --suite suite.toml --data . -b 2 --threads 1 --json ";
  const json one = started(1, all + "--output one").json(),
             two = started(2, all + "--output two").json();
  EXPECT_EQ(one["results"], two["results"]);
  EXPECT_FALSE(one["results"].empty());
}

}  // namespace
}  // namespace mullion
