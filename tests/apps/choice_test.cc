// Questions with several answers: the texts that are scored, their log-likelihoods against a model
// without a cache, and the program: metrics, caches, batches, stopping, bad rows.
#include <algorithm>
#include <cmath>

#include "apps/llama/evaluation/choice_score.h"
#include "autograd/node.h"
#include "tensor/io/file.h"
#include "tests/apps/byte_llama.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

// Three merges cross from one text into another.
std::unique_ptr<Tokenizer> byte_tokenizer() {
  return test::byte_tokenizer({"un", "una", "Ġa"}, {"u n", "un a", "Ġ a"});
}

LlamaConfig byte_config() { return test::byte_config(*byte_tokenizer(), 96); }

std::string text_of(const Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) text += (text.empty() ? "" : "|") + tokenizer.token_bytes(id);
  return text;
}

TEST(ScoredText, IsCutAsLmEvalCutsIt) {
  const auto tokenizer = byte_tokenizer();
  const auto check = [&](const std::string& context, const std::string& continuation,
                         const std::string& first, const std::string& second) {
    const ScoredText text = scored_text(*tokenizer, context, continuation, 100);
    EXPECT_EQ(text_of(*tokenizer, text.context), first);
    EXPECT_EQ(text_of(*tokenizer, text.continuation), second);
  };
  check("xy", " ab", "x|y", " a|b");
  // Whitespace at the end of the context goes with the continuation.
  check("xy ", "ab", "x|y", " a|b");
  check("xy\n\n", " b", "x|y", "\n|\n| |b");
  // Where the two merge, the context stays as it is alone and the rest is counted off.
  check("un", "able", "un", "b|l|e");
  // Nothing in front: EOS stands for a BOS that is not there.
  check("", "ab", "<|end|>", "a|b");
  const ScoredText cut = scored_text(*tokenizer, "abcdefgh", "xyz", 6);
  EXPECT_EQ(text_of(*tokenizer, cut.context), "f|g|h");
  EXPECT_EQ(cut.cut, 5);
  EXPECT_THROW(scored_text(*tokenizer, "a", "xyzxyz", 6), Error);
}

ChoiceQuestion question(const std::string& text, std::vector<std::string> choices) {
  return {.id = text,
          .text = text,
          .texts = {},
          .choices = std::move(choices),
          .answer = 0,
          .json = "{}"};
}

TEST(ChoiceScorer, EqualsAModelWithoutACache) {
  Llama model(byte_config());
  model.initialize(3);
  const auto tokenizer = byte_tokenizer();
  const std::vector<ChoiceQuestion> questions{
      question("why", {"a", "because of it", "never"}), question("why not", {"so", "x"}),
      question("w", {"yes", "no", "a long answer, longer than the others", "b"})};
  const std::string shots = "what that\n\nwhen then\n\n";
  KvCacheOptions large;
  large.kind = "h2o";
  large.budget_tokens = 1000;
  for (const KvCacheOptions& cache : {KvCacheOptions{}, large})
    for (const size_t batch : {1, 2, 3}) {
      ChoiceScorer scorer(model, *tokenizer, cache, shots);
      for (size_t begin = 0; begin < questions.size(); begin += batch) {
        const auto some =
            std::span(questions).subspan(begin, std::min(batch, questions.size() - begin));
        const auto scores = scorer(some);
        for (size_t i = 0; i < some.size(); ++i)
          for (size_t k = 0; k < some[i].choices.size(); ++k) {
            const auto context = tokenizer->encode(shots + some[i].text);
            auto ids = tokenizer->encode(shots + some[i].text + " " + some[i].choices[k]);
            const NoGrad no_grad;
            const auto length = std::ssize(ids);
            const auto logits =
                model
                    .logits(Tensor::from(std::vector<int64_t>(ids.begin(), ids.end()), {1, length}))
                    .to_vector<double>();
            double expected = 0;
            for (auto t = std::ssize(context); t < length; ++t) {
              const double* row = logits.data() + (t - 1) * 260;
              double sum = 0;
              for (int v = 0; v < 260; ++v) sum += std::exp(row[v]);
              expected += row[ids[static_cast<size_t>(t)]] - std::log(sum);
            }
            EXPECT_NEAR(scores[i].sum[k], expected, 1e-4) << batch;
            EXPECT_EQ(scores[i].tokens[k], length - std::ssize(context));
          }
      }
    }
}

// What questions begin with is read once; caches that evict hold the same as if it were not.
TEST(ChoiceScorer, ASharedBeginningChangesNothing) {
  Llama model(byte_config());
  model.initialize(3);
  const auto tokenizer = byte_tokenizer();
  const std::string shots = "what that\n\nwhen then\n\n";
  for (const char* kind : {"h2o", "local", "sink"})
    for (const auto& [percent, tokens] :
         {std::pair{50.0, 0}, {100.0, 0}, {40.0, 0}, {0.0, 9}, {0.0, 30}}) {
      KvCacheOptions cache;
      cache.kind = kind;
      cache.budget_percent = percent;
      cache.budget_tokens = tokens;
      ChoiceScorer shared(model, *tokenizer, cache, shots), alone(model, *tokenizer, cache, "");
      for (const char* text : {"why", "why not, what else", "w"}) {
        const ChoiceQuestion apart = question(text, {"because of it", "never"});
        const ChoiceQuestion whole = question(shots + text, {"because of it", "never"});
        const auto a = shared(std::span(&apart, 1)), b = alone(std::span(&whole, 1));
        for (size_t k = 0; k < 2; ++k)
          EXPECT_NEAR(a[0].sum[k], b[0].sum[k], 1e-5) << describe(cache) << ", " << text;
      }
      EXPECT_EQ(shared.kept(), alone.kept()) << describe(cache);
      EXPECT_EQ(shared.kept().empty(), kind != std::string("h2o"));
    }
}

class Choice : public test::Programs {
 protected:
  Choice() : Programs({"eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_byte_llama(at("m"), *byte_tokenizer(), 96);
    std::string rows;
    for (int i = 0; i < 7; ++i)
      rows +=
          R"({"id": "r)" + std::to_string(i) + R"(", "question": {"stem": "stem )" +
          std::to_string(i * 7) +
          R"(", "choices": [{"text": "one", "label": "A"}, {"text": "another one", "label": "B"},)" +
          R"( {"text": "x", "label": "C"}]}, "answerKey": ")" + "ABC"[i % 3] + "\"}\n";
    write_whole_file(at("q.jsonl"), rows);
  }
  const std::string choice_ =
      "eval_llama choice -m m --task openbookqa --data q.jsonl --threads 1 --json ";
};

TEST_F(Choice, CachesOfAllKindsAndAnyBatch) {
  const std::string caches =
      "--kv full,h2o,local,sink --kv-budget 6,50% --num-fewshot 2 "
      "--fewshot-data q.jsonl ";
  const auto one = result(choice_ + caches + "-b 1 --output a");
  const auto many = result(choice_ + caches + "-b 5 --output b");
  ASSERT_EQ(one["results"].size(), 7u);
  for (size_t i = 0; i < 7; ++i) {
    auto x = one["results"][i], y = many["results"][i];
    for (const char* key : {"task", "kv", "kv_budget", "n", "acc", "acc_norm", "acc_bytes",
                            "acc_mutual_info", "acc_token", "stderr"})
      EXPECT_EQ(x[key], y[key]) << key;
    EXPECT_TRUE(x.contains("tok_s") && x["cache_bytes"].get<int64_t>() > 0);
    EXPECT_EQ(x["n"], 7);
  }
  EXPECT_EQ(one["results"][0]["kv_budget"], nullptr);
  EXPECT_EQ(one["results"][2]["kv_budget"], "50%");
  std::istringstream lines;  // the samples of `full` come first
  for (const auto& entry : std::filesystem::recursive_directory_iterator(at("a")))
    if (entry.path().filename().string().starts_with("samples_"))
      lines.str(test::contents(entry.path()));
  double sum = 0;
  std::string line;
  for (int i = 0; i < 7 && std::getline(lines, line); ++i) {
    const auto sample = nlohmann::json::parse(line);
    sum += sample["resps"][sample["target"].get<size_t>()][0].get<double>();
  }
  EXPECT_NEAR(one["results"][0]["target_ll"].get<double>(), sum / 7, 1e-9);
  // lm-eval's layout.
  const auto file = nlohmann::json::parse(test::contents(at(one["file"].get<std::string>())));
  EXPECT_EQ(file["results"]["openbookqa_h2o_6"]["acc,none"], one["results"][1]["acc"]);
  EXPECT_EQ(file["n-shot"]["openbookqa_full_"], 2);
}

TEST_F(Choice, TheSimulationByAMask) {
  const auto found = result(choice_ + "--kv h2o,local --kv-budget 40% --kv-mode mask");
  EXPECT_EQ(found["results"].size(), 2u);
  EXPECT_EQ(found["results"][0]["cache"]["kv_mode"], "mask");
  // All keys within reach: what full attention says.
  const auto full = result(choice_), wide = result(choice_ +
                                                   "--kv local --kv-budget 100% "
                                                   "--kv-mode mask");
  EXPECT_EQ(full["results"][0]["acc_norm"], wide["results"][0]["acc_norm"]);
}

TEST_F(Choice, AStoppedRunGoesOn) {
  const auto whole = result(choice_ + "--output a");
  // Half a line of the fourth sample, as a run leaves it that is killed while it writes.
  const auto samples = [&](const std::string& folder) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(at(folder)))
      if (entry.path().filename().string().starts_with("samples_")) return entry.path();
    return std::filesystem::path();
  };
  const std::string lines = test::contents(samples("a"));
  // A disk that has no more room ends it in the middle, whatever its speed.
  const auto stopped = run("ulimit -f 4; " + choice_ + "--output b");
  EXPECT_NE(stopped.code, 0);
  const auto part = samples("b");
  const std::string left = test::contents(part);
  const std::string identity = left.substr(0, left.find('\n') + 1);
  size_t third = 0;
  for (int i = 0; i < 3; ++i) third = lines.find('\n', third) + 1;
  write_whole_file(part, identity + lines.substr(0, third + 40));
  const auto again = result(choice_ + "--output b");
  for (const char* key : {"acc", "acc_norm", "acc_mutual_info", "n"})
    EXPECT_EQ(again["results"][0][key], whole["results"][0][key]) << key;
  // Other options do not go on there.
  write_whole_file(part, identity + lines.substr(0, third));
  refused(choice_ + "--output b --limit 5", 2, {"samples_choice_openbookqa.part.jsonl", "other"});
  // Nor do another model or other questions that came to the same place.
  for (const std::string file : {"q.jsonl", "m/config.json"}) {
    const std::string before = test::contents(at(file));
    const auto time = std::filesystem::last_write_time(at(file));
    write_whole_file(at(file), before + "\n");
    refused(choice_ + "--output b", 2, {"samples_choice_openbookqa.part.jsonl", "changed"});
    write_whole_file(at(file), before);
    std::filesystem::last_write_time(at(file), time);
  }
  EXPECT_EQ(result(choice_ + "--output b")["results"][0]["n"], whole["results"][0]["n"]);
}

TEST_F(Choice, ResultsOfTheSameSecondAreBothKept) {
  const auto first = result(choice_ + "--limit 1 --output a");
  const auto second = result(choice_ + "--limit 1 --output a");
  EXPECT_NE(first["file"], second["file"]);
  EXPECT_TRUE(std::filesystem::exists(at(first["file"].get<std::string>())));
}

TEST_F(Choice, AModelWithoutNumbersHasNoAccuracy) {
  Llama model(byte_config());
  model.initialize(3);
  for_each_parameter(model, [](const std::string& name, Tensor& p) {
    if (name == "lm_head.weight") raw::fill(p, 3e38);  // logits that overflow
  });
  save_llama(at("nan"), model);
  write_tokenizer(*byte_tokenizer(), at("nan"));
  refused("eval_llama choice -m nan --task openbookqa --data q.jsonl", 5, {"not finite"});
}

TEST_F(Choice, BadRowsAreNamed) {
  const std::string good = R"("question": {"stem": "s", "choices": [{"text": "a", "label": "A"},)"
                           R"( {"text": "b", "label": "B"}]})";
  const auto bad = [&](const std::string& row, const std::vector<std::string>& words) {
    write_whole_file(at("bad.jsonl"), R"({"id": "0", )" + good +
                                          R"(, "answerKey": "A"})"
                                          "\n" +
                                          row + "\n");
    std::vector<std::string> all = words;
    all.emplace_back("bad.jsonl: line 2");
    refused("eval_llama choice -m m --task openbookqa --data bad.jsonl", 3, all);
  };
  bad(R"({"id": "1", "answerKey": "A"})", {"question"});
  bad(R"({"id": "1", )" + good + "}", {"answerKey"});
  bad(R"({"id": "1", )" + good + R"(, "answerKey": "E"})", {"answerKey", "E"});
  bad(R"({"id": "0", )" + good + R"(, "answerKey": "A"})", {"id: 0", "line 1"});
  bad(R"({"id": "1", "question": {"stem": "s", "choices": []}, "answerKey": "A"})", {"names no"});
  bad(R"({"id": "1", "question": {"stem": "s", "choices": [{"text": "", "label": "A"}, )"
      R"({"text": "b", "label": "B"}]}, "answerKey": "A"})",
      {"choice 1 is empty"});
  bad("[1]", {"not an object"});
  bad("{", {"bad.jsonl"});
  refused(choice_ + "--num-fewshot 9 --fewshot-data q.jsonl", 2, {"--num-fewshot 9", "7 rows"});
  refused(choice_ + "--num-fewshot 2", 2, {"--fewshot-data"});
  refused(choice_ + "--kv h2o", 2, {"--kv-budget"});
  refused(choice_ + "--kv h2o --kv-budget 0", 2, {"--kv-budget", "'0'"});
  refused(choice_ + "--kv local,local --kv-budget 4", 2, {"--kv: local", "twice"});
  refused(choice_ + "--task nothing", 2, {"nothing"});
}

}  // namespace
}  // namespace mullion
