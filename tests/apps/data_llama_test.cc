// data_llama as a user calls it: text in, token file out, and back to text.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>

#include "data/token_file.h"
#include "data/tokenizer.h"
#include "models/llama/config.h"
#include "tensor/io/file.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class DataLlama : public ::testing::Test {
 protected:
  void SetUp() override {
    program_ = fs::read_symlink("/proc/self/exe").parent_path() / "data_llama";
    if (!fs::exists(program_)) GTEST_SKIP() << "needs the program " << program_;
    folder_ = fs::temp_directory_path() / ("mullion_data_llama_" + std::to_string(::getpid()));
    fs::create_directories(folder_ / "text");
    write_whole_file(folder_ / "tokenizer.model", test::spm_sample().bytes());
    write_whole_file(folder_ / "text/a.txt", "the and the");
    write_whole_file(folder_ / "text/b.jsonl", "{\"text\": \"and\"}\n{\"text\": \"\"}\n\"the\"\n");
  }
  void TearDown() override { fs::remove_all(folder_); }

  // Runs the program in the test's folder; returns its last line of stdout.
  std::string run(const std::string& arguments, int expected_code = 0) const {
    const std::string command =
        "cd '" + folder_.string() + "' && '" + program_.string() + "' " + arguments + " 2>log";
    FILE* pipe = ::popen(command.c_str(), "r");
    std::string out;
    char block[4096];
    while (size_t n = std::fread(block, 1, sizeof(block), pipe)) out.append(block, n);
    EXPECT_EQ(::pclose(pipe) >> 8, expected_code) << arguments;
    if (!out.empty() && out.back() == '\n') out.pop_back();
    return out.substr(out.rfind('\n') + 1);
  }

  fs::path program_, folder_;
};

TEST_F(DataLlama, TokenizeShowCheckAndSplit) {
  auto result =
      nlohmann::json::parse(run("tokenize --model . --data text --output t.bin --eos --json"));
  EXPECT_EQ(result["documents"], 3);
  EXPECT_EQ(result["empty"], 1);
  auto tokenizer = load_tokenizer(folder_);
  TokenFile file(folder_ / "t.bin");
  EXPECT_EQ(result["tokens"], file.size());
  EXPECT_EQ(file.notes().documents, (std::vector<uint64_t>{0, 5, 8}));
  EXPECT_EQ(tokenizer->decode(file.read(0, file.size()), {.specials = true}),
            "<s>the and the</s><s>and</s><s>the</s>");
  result = nlohmann::json::parse(run("show t.bin --model . --document 1 -n 3 --json"));
  EXPECT_EQ(result["text"], "<s>and</s>");
  EXPECT_EQ(nlohmann::json::parse(run("check t.bin --model . --json"))["ok"], true);
  result = nlohmann::json::parse(run("split t.bin --val-size 0.3 --json"));
  EXPECT_EQ(result["train_tokens"], 8);
  EXPECT_EQ(TokenFile(folder_ / "t-val.bin").notes().documents, std::vector<uint64_t>{0});
}

TEST_F(DataLlama, WithoutBosAndWithoutHeader) {
  run("tokenize --model tokenizer.model --data text/a.txt --output t.bin --no-bos "
      "--token-dtype u16");
  EXPECT_EQ(fs::file_size(folder_ / "t.bin"), 6u);  // three words
}

TEST_F(DataLlama, LexiconMakesRowsAndATinyModel) {
  run("lexicon --rows 3 --length 33 --output made.bin --model-dir tiny --seed 5");
  TokenFile file(folder_ / "made.bin");
  EXPECT_EQ(file.notes().documents, (std::vector<uint64_t>{0, 33, 66}));
  EXPECT_EQ(read_llama_config(folder_ / "tiny/config.json").max_position_embeddings, 33);
  auto result = nlohmann::json::parse(run("check made.bin --model tiny --json"));
  EXPECT_EQ(result["tokenizer_compared"], true);
  // The same documents where a later one comes first.
  run("lexicon --rows 1 --first-row 2 --length 33 --output third.bin --seed 5");
  EXPECT_EQ(TokenFile(folder_ / "third.bin").read(0, 33), file.read(66, 33));
}

TEST_F(DataLlama, ExitCodesNameTheFault) {
  run("tokenize --data text --output t.bin", 2);
  run("tokenize --model . --data text", 2);
  run("tokenize --model . --data nothing --output t.bin", 3);
  run("tokenize --model text --data text --output t.bin", 3);
  run("tokenize --model . --data text --output none/t.bin", 4);
  run("guess", 2);
}

}  // namespace
}  // namespace mullion
