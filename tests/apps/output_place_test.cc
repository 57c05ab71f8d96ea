// Where results cannot be written is found before the work, and --dry-run says what would be done.
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class OutputPlace : public test::Programs {
 protected:
  OutputPlace() : Programs({"tool_llama", "chat_llama", "data_llama", "report", "tool_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("m"));
    write_whole_file(at("rows.jsonl"), "{\"prompt\": \"ba=\"}\n");
    write_whole_file(at("text.txt"), "ba=KO de=LU fi=ZA go=RI ");
    fs::create_directories(at("run/eval"));
    write_whole_file(at("run/metrics.jsonl"), "{\"step\": 1, \"loss\": 2}\n");
  }
};

// Each before anything of it is done: of the model's line, told when it has been read, nothing.
TEST_F(OutputPlace, AFolderThatIsNotThereIsFoundBeforeTheWork) {
  for (const char* call :
       {"tool_llama export -m m --format gguf", "tool_llama export -m m --format hf",
        "tool_llama quantize -m m --type q8_0", "tool_llama merge -m m --adapter absent",
        "data_llama tokenize -m m --data text.txt", "data_llama compose absent.toml",
        "tool_tic export --checkpoint absent --format onnx",
        "tool_tic export --checkpoint absent --format torch"})
    for (const char* dry : {"", " --dry-run"}) {
      if (*dry && std::string(call).starts_with("tool_tic")) continue;  // has no plan
      const test::Answer answer = run(call + std::string(" -o no/such/out") + dry);
      EXPECT_EQ(answer.code, 4) << call << dry << "\n" << answer.log;
      EXPECT_NE(answer.log.find("no/such/out"), std::string::npos) << answer.log;
      EXPECT_NE(answer.log.find("there is no folder no/such"), std::string::npos) << answer.log;
      EXPECT_EQ(answer.log.find("parameters"), std::string::npos) << answer.log;
    }
  refused("chat_llama complete -m m --jsonl rows.jsonl -o no/out.jsonl", 4,
          {"no/out.jsonl", "there is no folder no"});
  for (const char* dry : {"", " --dry-run"})
    refused(std::string("report run -o no/out.html") + dry, 4,
            {"no/out.html", "there is no folder no"});
  EXPECT_FALSE(fs::exists(at("no")));
}

TEST_F(OutputPlace, AFolderIsNoFile) {
  for (const char* call : {"chat_llama complete -m m --jsonl rows.jsonl",
                           "data_llama tokenize -m m --data text.txt", "data_llama lexicon"})
    refused(call + std::string(" -o m"), 2, {"m: is a folder"});
  refused("report run -o run/", 2, {"run/"});
  for (const auto& entry : fs::recursive_directory_iterator(at(".")))
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
}

TEST_F(OutputPlace, ADryRunSaysWhatWouldBeDone) {
  const auto says = [&](const std::string& call, const std::vector<std::string>& words) {
    const test::Answer answer = run(call + " --dry-run --threads 1 > told");
    EXPECT_EQ(answer.code, 0) << call << "\n" << answer.log;
    const std::string told = test::contents(at("told"));
    for (const std::string& word : words)
      EXPECT_NE(told.find(word), std::string::npos) << call << ": " << word << "\n" << told;
  };
  says("tool_llama compare m m --data text.txt", {"m: ", "tensors", "perplexity of"});
  says("tool_llama export -m m --format hf -o x", {"m -> x: f32", "would be written"});
  says("tool_llama bench -m m -p 8 -n 4", {"pp8, tg4", "5 times"});
  says("data_llama lexicon -o x.bin --rows 7 --length 10 --model-dir tiny",
       {"x.bin: 7 documents of 10 tokens, 70 in all", "tiny"});
  says("report run -o page.html", {"page.html and page.md", "1 runs of language models"});
  says("chat_llama complete -m m -p ba= -n 5", {"tokens in a context of 64", "at most 5"});
  ASSERT_EQ(run("data_llama lexicon -o y.bin --words spaced --model-dir spaced").code, 0);
  says("data_llama lookups -m spaced --pairs 4,8 -o rows",
       {"rows/4_topics.jsonl: 50 questions", "rows/8_topics.jsonl"});
  for (const char* file : {"x", "x.bin", "tiny", "page.html", "rows"})
    EXPECT_FALSE(fs::exists(at(file))) << file;
}

}  // namespace
}  // namespace mullion
