// data_llama as a user calls it: text in, token file out, and back to text.
#include "data/token_file.h"
#include "data/tokenizer.h"
#include "models/llama/config.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/data/tokenizer_samples.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class DataLlama : public test::Programs {
 protected:
  DataLlama() : Programs({"data_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    fs::create_directories(at("text"));
    write_whole_file(at("tokenizer.model"), test::spm_sample().bytes());
    write_whole_file(at("text/a.txt"), "the and the");
    write_whole_file(at("text/b.jsonl"), "{\"text\": \"and\"}\n{\"text\": \"\"}\n\"the\"\n");
  }
};

TEST_F(DataLlama, TokenizeShowCheckAndSplit) {
  const auto made = result("data_llama tokenize --model . --data text --output t.bin --eos --json");
  EXPECT_EQ(made["documents"], 3);
  EXPECT_EQ(made["empty"], 1);
  auto tokenizer = load_tokenizer(folder_.path());
  TokenFile file(at("t.bin"));
  EXPECT_EQ(made["tokens"], file.size());
  EXPECT_EQ(file.notes().documents, (std::vector<uint64_t>{0, 5, 8}));
  EXPECT_EQ(tokenizer->decode(file.read(0, file.size()), {.specials = true}),
            "<s> the and the</s><s> and</s><s> the</s>");
  EXPECT_EQ(result("data_llama show t.bin --model . --document 1 -n 3 --json")["text"],
            "<s> and</s>");
  EXPECT_EQ(result("data_llama check t.bin --model . --json")["ok"], true);
  EXPECT_EQ(result("data_llama split t.bin --val-size 0.3 --json")["train_tokens"], 8);
  EXPECT_EQ(TokenFile(at("t-val.bin")).notes().documents, std::vector<uint64_t>{0});
}

TEST_F(DataLlama, WithoutBosAndWithoutHeader) {
  EXPECT_EQ(run("data_llama tokenize --model tokenizer.model --data text/a.txt --output t.bin "
                "--no-bos --token-dtype u16")
                .code,
            0);
  EXPECT_EQ(fs::file_size(at("t.bin")), 6u);  // three words
}

TEST_F(DataLlama, LexiconMakesRowsAndATinyModel) {
  const std::string lexicon = "data_llama lexicon --length 33 --seed 5 ";
  ASSERT_EQ(run(lexicon + "--rows 3 --output made.bin --model-dir tiny").code, 0);
  TokenFile file(at("made.bin"));
  EXPECT_EQ(file.notes().documents, (std::vector<uint64_t>{0, 33, 66}));
  EXPECT_EQ(read_llama_config(at("tiny/config.json")).max_position_embeddings, 33);
  EXPECT_EQ(result("data_llama check made.bin --model tiny --json")["tokenizer_compared"], true);
  // The same documents where a later one comes first.
  ASSERT_EQ(run(lexicon + "--rows 1 --first-row 2 --output third.bin").code, 0);
  EXPECT_EQ(TokenFile(at("third.bin")).read(0, 33), file.read(66, 33));
}

TEST_F(DataLlama, ExitCodesNameTheFault) {
  refused("data_llama tokenize --data text --output t.bin", 2, {"--model"});
  refused("data_llama tokenize --model . --data text", 2, {"--output"});
  refused("data_llama tokenize --model . --data nothing --output t.bin", 3, {"nothing"});
  refused("data_llama tokenize --model text --data text --output t.bin", 3, {"text"});
  refused("data_llama tokenize --model . --data text --output none/t.bin", 4, {"none/t.bin"});
  refused("data_llama guess", 2, {"guess"});
  EXPECT_FALSE(fs::exists(at("t.bin")));
}

}  // namespace
}  // namespace mullion
