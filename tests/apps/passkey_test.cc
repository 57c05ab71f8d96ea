// Passkey retrieval: NumPy's old random numbers, LongLoRA's cases, the prompt, and the program.
#include "apps/llama/passkey.h"

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion {
namespace {

using Pairs = std::vector<std::pair<int64_t, int64_t>>;

Pairs cases(int64_t garbage) {
  Pairs pairs;
  for (uint32_t seed = 0; seed < 10; ++seed) {
    const PasskeyCase c = passkey_case(garbage, seed);
    pairs.emplace_back(c.prefix, c.key);
  }
  return pairs;
}

TEST(Passkey, CasesOfSeeds0To9) {
  EXPECT_EQ(cases(3072), (Pairs{{2732, 43568},
                                {1061, 33004},
                                {2575, 6638},
                                {1898, 1689},
                                {1146, 8367},
                                {2915, 18639},
                                {2954, 41188},
                                {175, 49690},
                                {451, 25941},
                                {382, 20829}}));
  EXPECT_EQ(cases(30720), (Pairs{{2732, 43568},
                                 {29733, 33004},
                                 {23720, 35344},
                                 {5994, 1689},
                                 {17530, 8367},
                                 {2915, 18639},
                                 {19145, 41188},
                                 {28847, 49690},
                                 {4547, 25941},
                                 {24958, 20829}}));
}

TEST(Passkey, RandomNumbersAreNumpys) {
  EXPECT_EQ(NumpyRandom(0).randint(0, 100), 44);
  EXPECT_EQ(NumpyRandom(42).randint(0, 100), 51);
  NumpyRandom random(1);
  for (int i = 0; i < 2000; ++i) {  // beyond one state of the generator
    const int64_t x = random.randint(-3, 4);
    EXPECT_TRUE(x >= -3 && x < 4);
  }
  EXPECT_EQ(random.randint(5, 6), 5);
  EXPECT_THROW(random.randint(5, 5), Error);
}

TEST(Passkey, Lengths) {
  const std::vector<int64_t> expected = {3072, 7168, 10240, 14336};
  for (size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(passkey_garbage(static_cast<int64_t>(i), 1000), expected[i]);
  EXPECT_EQ(passkey_garbage(33, 1000), 126976);
}

TEST(Passkey, ThePromptHidesTheKeyBetweenTwoPiecesOfFiller) {
  const PasskeyCase c = passkey_case(3072, 7);  // 175 characters before, 2897 behind
  std::vector<std::string> lines;
  for (size_t begin = 0; begin <= c.prompt.size();) {
    const size_t end = std::min(c.prompt.find('\n', begin), c.prompt.size());
    lines.push_back(c.prompt.substr(begin, end - begin));
    begin = end + 1;
  }
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_TRUE(lines[0].starts_with("There is an important info hidden"));
  EXPECT_EQ(lines[1].size(), 175u);
  EXPECT_EQ(lines[2], "The pass key is 49690. Remember it. 49690 is the pass key.");
  EXPECT_EQ(lines[3].size(), 3072u - 175u);
  EXPECT_EQ(lines[4], "What is the pass key? The pass key is");
  // Both pieces begin at the filler's beginning and are cut by characters.
  const std::string unit =
      "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again. ";
  for (size_t i = 0; i < 175; ++i) EXPECT_EQ(lines[1][i], unit[i % unit.size()]);
  for (size_t i = 0; i < lines[3].size(); ++i) ASSERT_EQ(lines[3][i], unit[i % unit.size()]);
}

TEST(Passkey, TheAnswerIsWhatFollowsThePrompt) {
  const auto tokenizer =
      make_tokenizer(parse_tokenizer_json(test::json_sample().dump(), "tokenizer.json"));
  const PasskeyCase c = passkey_case(1024, 3);
  const PasskeyTokens tokens = passkey_tokens(c, *tokenizer, false);
  EXPECT_EQ(tokenizer->decode(tokens.prompt), c.prompt);
  EXPECT_EQ(tokenizer->decode(tokens.answer), " " + std::to_string(c.key));
}

class PasskeyProgram : public test::Programs {
 protected:
  PasskeyProgram() : Programs({"eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    LlamaConfig config = test::tiny_config();
    config.vocab_size = 320;
    config.max_position_embeddings = 2560;
    config.eos_token_ids = {};
    config.bos_token_id = std::nullopt;
    test::write_tiny_llama(at("m"), config);
    write_json_file(at("m/tokenizer.json"), test::json_sample());
    write_json_file(at("m/tokenizer_config.json"), nlohmann::json::object());
  }
};

TEST_F(PasskeyProgram, OneLineATrialAndAnAccuracyALength) {
  const auto told = result(
      "eval_llama passkey -m m --interval 280 --max-tokens 560 --trials 3 "
      "--threads 2 --csv p.csv --json");
  ASSERT_EQ(told["lengths"].size(), 2u);
  EXPECT_EQ(told["lengths"][0]["garbage"], 1024);
  EXPECT_EQ(told["lengths"][1]["garbage"], 2048);
  EXPECT_EQ(told["lengths"][0]["trials"], 3);
  EXPECT_EQ(told["trials"], 6);
  EXPECT_EQ(told["accuracy"], 0.0);  // an untrained model
  const std::string csv = test::contents(at("p.csv"));
  EXPECT_EQ(std::count(csv.begin(), csv.end(), '\n'), 7) << csv;
  EXPECT_EQ(csv.rfind("garbage_chars,tokens,seed,position,expected,answered,correct\n1024,", 0),
            0u);
  EXPECT_NE(csv.find(",43568,"), std::string::npos);  // the key of seed 0
  const std::string short_one =
      "eval_llama passkey -m m --interval 280 --max-tokens 280 --trials 2 --threads 2 --json ";
  const auto deep = result(short_one + "--depth 0,50,100 --csv d.csv");
  ASSERT_EQ(deep["depths"].size(), 3u);
  EXPECT_EQ(deep["depths"][1]["depth"], 50);
  EXPECT_EQ(deep["depths"][1]["trials"], 2);
  EXPECT_EQ(deep["lengths"][0]["trials"], 6);
  EXPECT_EQ(deep["accuracy_by_length"].size(), 1u);
  const std::string places = test::contents(at("d.csv"));
  for (const char* place : {",0,0,43568,", ",0,0.5,43568,", ",0,1,43568,"})
    EXPECT_NE(places.find(place), std::string::npos) << places;
  refused(short_one + "--depth 0,101", 2, {"--depth", "101"});
  refused("eval_llama passkey -m m --max-tokens 3000 --interval 1000", 2, {"tokens", "2560"});
  refused("eval_llama passkey -m m --max-tokens 10 --interval 1000", 2,
          {"--max-tokens", "--interval"});
  refused("eval_llama passkey -m m --interval 10 --max-tokens 20", 2, {"interval"});
  refused("eval_llama passkey -m m --interval 280 --max-tokens 280 --csv none/p.csv", 4,
          {"none/p.csv"});
}

}  // namespace
}  // namespace mullion
