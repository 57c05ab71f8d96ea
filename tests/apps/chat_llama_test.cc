// chat_llama as a user calls it, and its texts against the likeliest tokens without a cache.
#include <algorithm>
#include <sstream>

#include "apps/program/json_object.h"
#include "autograd/node.h"
#include "data/tokenizer.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

class ChatLlama : public test::Programs {
 protected:
  ChatLlama() : Programs({"chat_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("m"));
  }
  std::vector<int32_t> ids(const std::string& arguments) const {
    return result("chat_llama complete -m m --threads 1 --json " + arguments)["ids"];
  }
};

TEST_F(ChatLlama, GreedyIsTheLikeliestTokenEachTime) {
  const auto told = result("chat_llama complete -m m -p 'ba=KO de=' -n 40 --ignore-eos --json");
  const auto model = load_llama(open_llama_checkpoint(at("m")));
  const auto tokenizer = load_tokenizer(at("m"));
  std::vector<int32_t> text = tokenizer->encode("ba=KO de=", {.bos = true});
  EXPECT_EQ(told["prompt_tokens"], text.size());
  EXPECT_EQ(text.size(), 4u);
  std::vector<int32_t> expected;
  NoGrad no_grad;
  for (int n = 0; n < 40; ++n) {
    const auto length = static_cast<int64_t>(text.size());
    const Tensor logits =
        model->logits(Tensor::from(std::vector<int64_t>(text.begin(), text.end()), {1, length}));
    const float* all = logits.data<float>();
    const float* last = all + (length - 1) * kLexiconVocab;
    text.push_back(static_cast<int32_t>(std::max_element(last, last + kLexiconVocab) - last));
    expected.push_back(text.back());
  }
  EXPECT_EQ(told["ids"].get<std::vector<int32_t>>(), expected);
  EXPECT_EQ(told["text"], tokenizer->decode(expected));
  EXPECT_EQ(told["stop"], "length");
  // The same from a file and from standard input.
  write_whole_file(at("prompt.txt"), "ba=KO de=");
  EXPECT_EQ(ids("-f prompt.txt -n 40 --ignore-eos"), expected);
  EXPECT_EQ(ids("-f - -n 40 --ignore-eos <prompt.txt"), expected);
}

TEST_F(ChatLlama, SamplesRepeatBySeed) {
  const std::string sample = "-p 'ba=' -n 30 --ignore-eos --temp 1 ";
  EXPECT_EQ(ids(sample + "-s 1"), ids(sample + "-s 1"));
  EXPECT_NE(ids(sample + "-s 1"), ids(sample + "-s 2"));
  const auto greedy = ids("-p 'ba=' -n 30 --ignore-eos");
  EXPECT_NE(ids(sample + "-s 1"), greedy);
  // Each of these keeps the likeliest token alone.
  for (const char* only : {"--top-k 1", "--top-p 1e-9", "--min-p 1"})
    EXPECT_EQ(ids(sample + only), greedy) << only;
}

TEST_F(ChatLlama, TextEndsAtTheContextOrAtEos) {
  const auto full = result("chat_llama complete -m m -p 'ba=' -n 0 --ignore-eos --json");
  EXPECT_EQ(full["stop"], "context");
  EXPECT_EQ(full["prompt_tokens"].get<int>() + full["tokens"].get<int>(), test::kTinyContext + 1);
  const auto part =
      result("chat_llama complete -m m -p 'ba=' -n 0 --ctx-size 12 --ignore-eos --json");
  EXPECT_EQ(part["stop"], "context");
  EXPECT_EQ(part["prompt_tokens"].get<int>() + part["tokens"].get<int>(), 13);
  refused("chat_llama complete -m m -p 'ba=KO de=LU ' --ctx-size 3", 2, {"--prompt", "3"});
  // The first token of the greedy text, declared to be the end of all texts.
  LlamaConfig config = test::tiny_config();
  config.eos_token_ids = {full["ids"][0].get<int64_t>()};
  test::write_tiny_llama(at("m"), config);
  const auto ended = result("chat_llama complete -m m -p 'ba=' -n 9 --json");
  EXPECT_EQ(ended["stop"], "eos");
  EXPECT_EQ(ended["tokens"], 0);
}

// Budgets that hold all say what a full cache says; smaller ones hold what they may.
TEST_F(ChatLlama, CachesWithABudget) {
  const std::string text = "-p 'ba=KO de=LU ba=' -n 40 --ignore-eos ";
  const auto full = ids(text);
  for (const char* kv : {"--kv h2o --kv-budget 64", "--kv local --kv-budget 1000%",
                         "--kv sink --kv-budget 200 --kv-positions rolled"})
    EXPECT_EQ(ids(text + kv), full) << kv;
  const auto told = result(
      "chat_llama complete -m m --json --kv-trace t.jsonl --kv h2o --kv-budget "
      "6 --kv-scores max --threads 1 " +
      text);
  EXPECT_EQ(told["cache"]["held"], 6);
  EXPECT_EQ(told["cache"]["bytes"], 7 * 2 * 2 * 2 * 8 * 4);  // tokens, layers, K and V, heads, D
  EXPECT_EQ(told["cache"]["kv_budget"], "6");
  EXPECT_EQ(std::ranges::count(test::contents(at("t.jsonl")), '\n'), 41);
  // Rolled positions go on where the context of 64 ends.
  const std::string rolled =
      "chat_llama complete -m m -p ba= --ignore-eos --kv sink --kv-budget 8 --kv-positions rolled ";
  EXPECT_EQ(result(rolled + "-n 100 --json")["tokens"], 100);
  refused(rolled + "-n 0", 2, {"rolled", "how many"});
  const std::string chat = "chat_llama complete -m m -p ba= ";
  refused(chat + "--kv h2o", 2, {"--kv-budget"});
  for (const char* budget : {"0", "-1", "0%", "%", "nan%", "5x", "1.5", "''"})
    refused(chat + "--kv local --kv-budget=" + budget, 2, {"--kv-budget"});
  refused(chat + "--kv-budget 5", 2, {"--kv full"});
  refused(chat + "--kv local --kv-budget 5 --kv-scores max", 2, {"--kv-scores", "h2o"});
  refused(chat + "--kv sink --kv-budget 4", 2, {"--kv-sinks 4", "budget of 4"});
  refused(chat + "--kv h2o --kv-budget 4 --kv-heavy 1", 2, {"--kv-heavy"});
  refused(chat + "--kv h2o --kv-budget 4 --kv-mode mask", 2, {"mask"});
}

// The texts of stop strings end the text and are no part of it, wherever tokens cut them.
TEST_F(ChatLlama, TextEndsAtAStopString) {
  const std::string call =
      "chat_llama complete -m m -p 'ba=' -n 30 --ignore-eos --json --threads 1 ";
  const std::string all = result(call)["text"];
  ASSERT_GT(all.size(), 12u);
  const std::string stop = all.substr(5, 4);
  const auto told = result(call + "--stop 'never, this' --stop '" + stop + "'");
  EXPECT_EQ(told["text"], all.substr(0, all.find(stop)));
  EXPECT_EQ(told["stop"], "stop");
  EXPECT_LT(told["tokens"], 30);
  EXPECT_EQ(result(call + "--stop '" + all.substr(0, 2) + ",'")["text"],
            all);  // a comma is its own
  refused("chat_llama complete -m m -p ba= --stop=", 2, {"--stop"});
}

// A penalty takes away what the text has already.
TEST_F(ChatLlama, RepeatPenalty) {
  const std::string call = "-p 'ba=' -n 8 --ignore-eos --repeat-penalty ";
  EXPECT_EQ(ids(call + "1"), ids("-p 'ba=' -n 8 --ignore-eos"));
  auto some = ids(call + "1000");
  std::ranges::sort(some);
  EXPECT_EQ(std::ranges::adjacent_find(some), some.end());
  refused("chat_llama complete -m m -p ba= --repeat-penalty 0", 2, {"--repeat-penalty"});
}

TEST_F(ChatLlama, RowsAreAnsweredAsAlone) {
  std::string rows;
  const std::vector<std::string> prompts = {"ba=", "ba=KO de=LU", "de=", "fi=ZA de=LU ba=KO",
                                            "ba=KO"};
  for (size_t i = 0; i < prompts.size(); ++i)
    rows +=
        JsonObject().set("prompt", prompts[i]).set("id", i).text() + "\n" + (i == 1 ? "\n" : "");
  write_whole_file(at("r.jsonl"), rows);
  for (const std::string how : {"-n 12", "-n 12 --temp 1 -s 3", "-n 30 --stop K",
                                "-n 12 --kv sink --kv-budget 6", "-n 9 --repeat-penalty 1.5"})
    for (const char* parallel : {"1", "3", "16"}) {
      const auto told =
          result("chat_llama complete -m m --threads 1 --jsonl r.jsonl --json -o out.jsonl " + how +
                 " --parallel " + parallel);
      EXPECT_EQ(told["rows"], prompts.size());
      std::istringstream lines(test::contents(at("out.jsonl")));
      std::string line;
      for (size_t i = 0; i < prompts.size(); ++i) {
        ASSERT_TRUE(std::getline(lines, line));
        const auto row = nlohmann::json::parse(line);
        const auto alone = result("chat_llama complete -m m --threads 1 --json " + how + " -p '" +
                                  prompts[i] + "'");
        EXPECT_EQ(row["id"], i);
        for (const char* field : {"text", "stop", "tokens", "prompt_tokens", "prompt"})
          EXPECT_EQ(row[field], alone[field]) << how << ", parallel " << parallel << ", row " << i;
      }
    }
  const auto planned =
      result("chat_llama complete -m m --jsonl r.jsonl --json -o dry.jsonl --dry-run");
  EXPECT_EQ(planned["rows"], prompts.size());
  EXPECT_FALSE(std::filesystem::exists(at("dry.jsonl")));
  // Without --output the rows are what stdout has.
  const test::Answer first =
      run("chat_llama complete -m m -n 12 --threads 1 --parallel 1 --jsonl r.jsonl | head -1");
  EXPECT_EQ(first.json()["id"], 0);
  EXPECT_EQ(first.log.find("error"), std::string::npos) << first.log;
}

// A signal keeps the rows that are finished, and the same call goes on with the others.
TEST_F(ChatLlama, StoppedRowsAreKept) {
  std::string rows;
  for (int i = 0; i < 400; ++i)
    rows += JsonObject().set("prompt", i % 2 ? "ba=KO de=" : "fi=ZA").set("id", i).text() + "\n";
  write_whole_file(at("r.jsonl"), rows);
  const std::string how =
      "chat_llama complete -m m --threads 1 --jsonl r.jsonl -n 50 --ignore-eos --temp 1 --json ";
  const auto whole = result(how + "-o whole.jsonl");
  EXPECT_EQ(whole["answered"], 400);
  const auto stop_after = [&](const std::string& command, const std::string& file) {
    return run(command + " & p=$!; while kill -0 $p 2>/dev/null && [ $(cat " + file +
               " 2>/dev/null | grep -c tokens) -lt 9 ]; do sleep 0.005; done; kill -TERM $p; "
               "wait $p");
  };
  const test::Answer stopped = stop_after(how + "-o out.jsonl", "out.jsonl.part.jsonl");
  ASSERT_EQ(stopped.code, 75) << stopped.log;
  const size_t answered = stopped.json()["answered"];
  EXPECT_GE(answered, 8u);
  EXPECT_LT(answered, 400u);
  EXPECT_FALSE(std::filesystem::exists(at("out.jsonl")));
  EXPECT_NE(stopped.log.find("out.jsonl.part.jsonl keeps them"), std::string::npos) << stopped.log;
  refused(how + "-o out.jsonl --seed 5", 2, {"out.jsonl.part.jsonl", "other options"});
  std::filesystem::resize_file(at("out.jsonl.part.jsonl"),  // in the middle of a row
                               std::filesystem::file_size(at("out.jsonl.part.jsonl")) - 7);
  const test::Answer on = run(how + "-o out.jsonl --parallel 2");
  ASSERT_EQ(on.code, 0) << on.log;
  EXPECT_NE(on.log.find(concat("goes on after ", answered - 1, " of 400 rows")), std::string::npos)
      << on.log;
  EXPECT_EQ(on.json()["tokens"], whole["tokens"]);
  EXPECT_EQ(test::contents(at("out.jsonl")), test::contents(at("whole.jsonl")));
  EXPECT_FALSE(std::filesystem::exists(at("out.jsonl.part.jsonl")));
  // Beside the model's own files as well, which it does not change.
  ASSERT_EQ(stop_after(how + "-o m/out.jsonl", "m/out.jsonl.part.jsonl").code, 75);
  EXPECT_EQ(result(how + "-o m/out.jsonl")["tokens"], whole["tokens"]);
  EXPECT_EQ(test::contents(at("m/out.jsonl")), test::contents(at("whole.jsonl")));
  // Standard output has whole rows, in their order, from the first on.
  const test::Answer printed = stop_after(
      "chat_llama complete -m m --threads 1 --jsonl r.jsonl -n 50 --ignore-eos --temp 1 > told",
      "told");
  ASSERT_EQ(printed.code, 75) << printed.log;
  const std::string told = test::contents(at("told"));
  EXPECT_TRUE(told.ends_with("}\n"));
  EXPECT_TRUE(test::contents(at("whole.jsonl")).starts_with(told));
}

TEST_F(ChatLlama, BadRowsAreNamed) {
  const std::string call = "chat_llama complete -m m -o out.jsonl --jsonl r.jsonl ";
  const auto bad = [&](const std::string& row, const std::vector<std::string>& words) {
    write_whole_file(at("r.jsonl"), "{\"prompt\": \"ba=\"}\n\n" + row + "\n");
    std::vector<std::string> all = words;
    all.emplace_back("line 3");
    refused(call, 3, all);
    EXPECT_FALSE(std::filesystem::exists(at("out.jsonl"))) << row;
  };
  bad("{\"prompt\": 5}", {"prompt", "no string"});
  bad("{\"promt\": \"a\"}", {"neither"});
  bad("{\"prompt\": \"a\", \"messages\": []}", {"both"});
  bad("{\"prompt\": \"a\", \"text\": 1}", {"text", "already"});
  bad("{\"prompt\": \"a\"", {"r.jsonl"});
  bad("{\"prompt\": \"\xff\"}", {"r.jsonl"});
  bad("[1]", {"object"});
  std::string text;
  for (int i = 0; i < 70; ++i) text += "ba=";
  bad("{\"prompt\": \"" + text + "\"}", {"71 tokens", "64"});
  bad("{\"messages\": [{\"role\": \"user\"}]}", {"messages[0]", "content"});
  bad("{\"messages\": [{\"role\": \"tool\", \"content\": \"\"}]}", {"messages[0].role", "tool"});
  bad("{\"messages\": [{\"role\": \"assistant\", \"content\": \"\"}]}", {"messages[0].role"});
  // A byte-order mark is none of the row, as it is none of a text.
  write_whole_file(at("r.jsonl"), "\xEF\xBB\xBF{\"prompt\": \"ba=\"}\n");
  EXPECT_EQ(run("chat_llama complete -m m -n 1 --jsonl r.jsonl").json()["prompt"], "ba=");
  refused("chat_llama complete -m m --jsonl r.jsonl --encoding latin1", 2, {"--encoding"});
  write_whole_file(at("r.jsonl"), "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}");
  refused(call, 2, {"line 1", "--template auto"});
  for (const char* idle : {"-p a", "-f a", "--kv-trace t"}) refused(call + idle, 2, {"--jsonl"});
  refused("chat_llama complete -m m -p ba= -o x", 2, {"--output", "--jsonl"});
  refused("chat_llama complete -m m -p ba= --parallel 2", 2, {"--parallel", "--jsonl"});
  refused("chat_llama complete -m m -p ba= --system x", 2, {"--system", "none"});
  refused("chat_llama complete -m m -p ba= --template auto", 2, {"auto", "no chat template"});
  refused("chat_llama complete -m m -p ba= --template chatml", 2, {"chatml", "<|im_start|>"});
  refused("chat_llama complete -m m -p ba= --template vicuna --bos", 2, {"--bos"});
}

TEST_F(ChatLlama, WrongInputIsRefused) {
  std::string prompt;
  for (int i = 0; i < 70; ++i) prompt += "ba=";
  refused("chat_llama complete -m m -p " + prompt, 2, {"71 tokens", "64"});
  refused("chat_llama complete -m m --ctx-size 128 -p ba=", 2,
          {"128", "64", "--rope-scaling linear"});
  refused("chat_llama complete -m m -p ba= -f x", 2, {"--prompt", "--file"});
  refused("chat_llama complete -m m -f x", 3, {"x"});
  refused("chat_llama complete -p ba=", 2, {"--model"});
  refused("chat_llama complete -m m -p ba= --temp -1", 2, {"--temp", "-1"});
  refused("chat_llama complete -m m -p ba= --top-p 1.5", 2, {"--top-p", "1.5"});
  refused("chat_llama complete -m m -p ba= --tempp 1", 2, {"--tempp", "did you mean --temp?"});
  refused("chat_llama compleet", 2, {"compleet", "did you mean complete?"});
  refused("chat_llama complete -m m/config.json -p ba=", 3, {"m/config.json"});
  std::filesystem::remove(at("m/tokenizer.json"));
  refused("chat_llama complete -m m -p ba=", 3, {"m", "tokenizer"});
}

}  // namespace
}  // namespace mullion
