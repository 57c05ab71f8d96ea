// tool_llama merge: the folder computes what base and adapter did, whole or not at all.
#include "models/llama/load.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class ToolLlamaMerge : public test::Programs {
 protected:
  ToolLlamaMerge() : Programs({"tool_llama", "train_llama", "eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    write_whole_file(at("base/chat_template.jinja"), "{{ '<|im_start|>' }}");
    test::write_lexicon_tokens(at("t.bin"), 12);
  }
  // Trains an adapter on base/, to twice its context.
  void train(const std::string& name = "a", const std::string& options = "") {
    const Answer trained =
        run("train_llama pretrain -m base --data t.bin --ctx-size 128 --attn full --lora-rank 2 "
            "--lr 0.05 --warmup-steps 0 --max-steps 2 --grad-accum-steps 1 --threads 1 --output "
            "runs --name " +
            name + " " + options);
    ASSERT_EQ(trained.code, 0) << trained.log;
  }
  double perplexity(const std::string& model) {
    return result("eval_llama ppl --data t.bin --ctx-size 128 --threads 1 --json " + model)
        .value("perplexity", 0.0);
  }
};

TEST_F(ToolLlamaMerge, ComputesWhatBaseAndAdapterDid) {
  train();
  const auto merged = result("tool_llama merge -m base --adapter runs/a -o out --threads 1 --json");
  EXPECT_EQ(merged.value("dtype", ""), "f32");
  EXPECT_EQ(merged.value("context", 0), 128);
  EXPECT_LT(merged.value("logit_difference", 1.0), 1e-4);
  EXPECT_NEAR(perplexity("-m out"), perplexity("-m base --adapter runs/a"), 1e-4);
  EXPECT_GT(std::abs(perplexity("-m out") - perplexity("-m base --rope-scaling linear")), 1.0);
  // Rope scaling as trained, the embedding that was trained and the head that was not, the files
  // beside the weights.
  const auto config = read_json_file(at("out/config.json"));
  EXPECT_EQ(config["rope_scaling"], nlohmann::json({{"type", "linear"}, {"factor", 2.0}}));
  EXPECT_EQ(config["max_position_embeddings"], 128);
  for (const char* name : {"tokenizer.json", "chat_template.jinja"})
    EXPECT_EQ(contents(at("out") / name), contents(at("base") / name)) << name;
  // The run's folder alone names both; shards and narrow types are the same model.
  for (const char* dtype : {"f16", "bf16"}) {
    const std::string name = std::string("out-") + dtype;
    const auto narrow =
        result("tool_llama merge -m runs/a --shard-size 2kB --threads 1 --json -o " + name +
               " --dtype " + dtype);
    EXPECT_GT(narrow.value("logit_difference", 0.0), 1e-4);
    EXPECT_TRUE(fs::exists(at(name) / "model.safetensors.index.json"));
    EXPECT_NEAR(perplexity("-m " + name) / perplexity("-m out"), 1, 0.02) << dtype;
    EXPECT_EQ(open_llama_checkpoint(at(name)).config.dtype,
              std::string(dtype) == "f16" ? DType::f16 : DType::bf16);
  }
}

TEST_F(ToolLlamaMerge, ATokenizerBesideTheAdapterIsTold) {
  train();
  const std::string adapter = "runs/a/last/adapter/";
  const std::string merge = "tool_llama merge -m base --adapter runs/a --threads 1 --json -o ",
                    told = "its own tokenizer has another chat template than that of base";
  for (const char* name : {"tokenizer.json", "chat_template.jinja"})
    fs::copy(at("base") / name, at(adapter) / name);
  EXPECT_EQ(run(merge + "same").log.find("its own tokenizer"), std::string::npos);
  write_whole_file(at(adapter + "chat_template.jinja"), "{{ '[INST]' }}");
  for (const std::string& call :
       {merge + "other",
        std::string(
            "eval_llama ppl --data t.bin --ctx-size 128 --threads 1 -m base --adapter runs/a")}) {
    const Answer answer = run(call);
    EXPECT_EQ(answer.code, 0) << answer.log;
    EXPECT_NE(answer.log.find(told), std::string::npos) << answer.log;
  }
}

TEST_F(ToolLlamaMerge, RefusesWhatDoesNotBelongTogether) {
  train();
  const std::string merge = "tool_llama merge --threads 1 -o out --adapter runs/a -m ";
  const auto nothing_written = [&] {
    EXPECT_FALSE(fs::exists(at("out")));
    for (const auto& entry : fs::directory_iterator(at(".")))
      EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  };
  // Another base of the same shape, unless it is meant.
  test::write_tiny_llama(at("other"), test::tiny_config(), 2);
  refused(merge + "other", 2, {"runs/a", "other weights", "other", "--force"});
  nothing_written();
  // The same values in another file are the same weights; rounded ones are not.
  ASSERT_EQ(run("tool_llama export -m base --format gguf --type f32 -o base.gguf").code, 0);
  EXPECT_EQ(run(merge + "base.gguf").code, 0) << contents(at("log"));
  fs::remove_all(at("out"));
  ASSERT_EQ(run("tool_llama export -m base --format gguf --type f16 -o rounded.gguf").code, 0);
  refused(merge + "rounded.gguf", 2, {"other weights", "rounded.gguf"});
  nothing_written();
  EXPECT_EQ(run(merge + "other --force").code, 0);
  fs::remove_all(at("out"));
  // Another vocabulary: of other texts, of another size.
  fs::copy(at("base"), at("renamed"));
  std::string tokens = contents(at("base/tokenizer.json"));
  const size_t at_token = tokens.find("\"</s>\"");
  ASSERT_NE(at_token, std::string::npos);
  for (size_t i = at_token; i != std::string::npos; i = tokens.find("\"</s>\"", i + 1))
    tokens.replace(i, 6, "\"<e>\"");
  fs::remove(at("renamed/tokenizer.json"));
  write_whole_file(at("renamed/tokenizer.json"), tokens);
  refused(merge + "renamed", 2, {"other tokens", "renamed"});
  nothing_written();
  LlamaConfig larger = test::tiny_config();
  larger.vocab_size += 8;
  test::write_tiny_llama(at("larger"), larger);
  refused(merge + "larger --force", 3, {"embed_tokens", "loading"});
  nothing_written();
  // No adapter; a folder that has something in it.
  refused("tool_llama merge -m base -o out", 2, {"--adapter"});
  fs::create_directory(at("out"));
  write_whole_file(at("out/notes.txt"), "mine");
  refused(merge + "base", 2, {"out", "empty"});
  EXPECT_EQ(contents(at("out/notes.txt")), "mine");
  EXPECT_FALSE(fs::exists(at("out/config.json")));
}

TEST_F(ToolLlamaMerge, LeavesNothingHalfWritten) {
  train();
  const std::string merge = "tool_llama merge -m runs/a --threads 1 -o ";
  // A folder that is full: the limit on a file's size does as a full disk.
  const Answer full = run("trap '' XFSZ; ulimit -f 8; " + merge + "out");
  EXPECT_EQ(full.code, 4) << full.log;
  EXPECT_NE(full.log.find("model.safetensors"), std::string::npos) << full.log;
  EXPECT_FALSE(fs::exists(at("out")));
  // Killed as soon as it has begun to write.
  run(merge +
      "out & p=$!; while kill -0 $p 2>/dev/null && ! ls -d .out.tmp-* >/dev/null 2>&1; do "
      ":; done; kill -KILL $p; wait $p");
  if (fs::exists(at("out"))) {
    EXPECT_NO_THROW(open_llama_checkpoint(at("out")));
  }
  // A plan alone writes nothing.
  EXPECT_EQ(run(merge + "plan --dry-run").code, 0);
  EXPECT_FALSE(fs::exists(at("plan")));
}

}  // namespace
}  // namespace mullion
