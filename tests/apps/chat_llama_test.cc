// chat_llama as a user calls it, and its texts against the likeliest tokens without a cache.
#include <algorithm>

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
