// A quantised file whose matrices stay in their blocks: evaluation, generation and LoRA on it
// against the same file widened; what is announced and what refused.
#include <cmath>
#include <cstring>
#include <fstream>

#include "models/llama/load.h"
#include "tensor/cpu/bf16_product.h"
#include "tensor/io/gguf.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

using test::Answer;

class StoredWeights : public test::Programs {
 protected:
  StoredWeights() : Programs({"train_llama", "eval_llama", "chat_llama", "tool_llama"}) {}
  // mixed.gguf: Q4_K and, as quantize chooses, other types beside it.
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    // Rows of 256, and of 384: no whole number of blocks of 256, hence another type.
    LlamaConfig config = test::tiny_config(64);
    config.initializer_range = 0.05;
    test::write_tiny_llama(at("base"), config);
    test::write_lexicon_tokens(at("t.bin"), 8);
    ASSERT_EQ(run("tool_llama export -m base --format gguf -o f.gguf").code, 0);
    ASSERT_EQ(run("tool_llama quantize -m f.gguf --type q4_k -o mixed.gguf").code, 0);
  }

  double perplexity(const std::string& how) {
    return std::exp(
        result("eval_llama ppl --data t.bin --ctx-size 32 --threads 1 --json " + how)["nll"]
            .get<double>());
  }
  // The loss of each of six steps.
  std::vector<double> losses(const std::string& name, const std::string& how) {
    const Answer trained = run(train_ + how + " --name " + name);
    EXPECT_EQ(trained.code, 0) << trained.log;
    std::vector<double> values;
    std::ifstream lines(at("runs/" + name + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const auto json = nlohmann::json::parse(line);
      if (json.contains("loss")) values.push_back(json["loss"]);
    }
    return values;
  }
  const std::string train_ =
      "train_llama pretrain --data t.bin --ctx-size 32 --attn sf --output runs --warmup-steps 0 "
      "--lr 1e-3 --grad-accum-steps 1 -b 2 --max-steps 6 --log-every 1 --threads 1 ";
};

TEST_F(StoredWeights, EvaluateAsTheWidenedDo) {
  const Answer told = run("eval_llama ppl --data t.bin --ctx-size 32 --threads 1 -m mixed.gguf");
  EXPECT_NE(told.log.find("weights as stored ("), std::string::npos) << told.log;
  EXPECT_NE(told.log.find("Q4_K "), std::string::npos) << told.log;
  const double stored = perplexity("-m mixed.gguf"),
               f32 = perplexity("-m mixed.gguf --weights f32");
  EXPECT_NEAR(stored / f32, 1, 1e-4);
  EXPECT_NEAR(perplexity("-m mixed.gguf --weights stored") / stored, 1, 1e-12);
  // A file without blocks has nothing to keep.
  EXPECT_NEAR(perplexity("-m base --weights stored") / perplexity("-m base"), 1, 1e-12);
}

TEST_F(StoredWeights, Generate) {
  const Answer said = run("chat_llama complete -p 'ba=KO de=' -n 12 --threads 1 -m mixed.gguf");
  EXPECT_EQ(said.code, 0) << said.log;
  EXPECT_EQ(result("tool_llama bench -m mixed.gguf -p 12 -n 2 -r 1 --threads 1 --json")["weights"],
            "stored");
}

TEST_F(StoredWeights, CarryLoraAsTheWidenedDo) {
  for (const std::string also : {"none", "embed,norm"}) {
    const std::string how = "-m mixed.gguf --train-also " + also;
    const std::vector<double> stored = losses("stored-" + also.substr(0, 4), how);
    const std::vector<double> f32 = losses("f32-" + also.substr(0, 4), how + " --weights f32");
    ASSERT_EQ(stored.size(), 6u);
    ASSERT_EQ(f32.size(), 6u);
    for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(stored[i], f32[i], 1e-3) << also << ", step " << i;
  }
  // The adapter goes on either form of the base.
  const std::string adapter = "-m mixed.gguf --adapter runs/stored-embe/last/adapter";
  EXPECT_NEAR(perplexity(adapter) / perplexity(adapter + " --weights f32"), 1, 1e-4);
  const auto merged = run("tool_llama merge " + adapter + " -o merged");
  ASSERT_EQ(merged.code, 0) << merged.log;
  EXPECT_NEAR(perplexity("-m merged") / perplexity(adapter + " --weights f32"), 1, 1e-4);
}

TEST_F(StoredWeights, AreCountedAsTheyAre) {
  const auto gib = [&](const std::string& how) {
    return result(train_ + "--dry-run --json --train-also none -m mixed.gguf --name x " +
                  how)["memory_gib"]
        .get<double>();
  };
  double stored = 0;
  const GgufFile file(at("mixed.gguf"));
  for (const TensorEntry& entry : file.entries()) stored += static_cast<double>(entry.bytes);
  double widened = 0;
  for (const TensorEntry& entry : file.entries()) widened += 4 * static_cast<double>(entry.count);
  // So little lives that the same freed blocks may be kept beside it (tensor/allocation.h).
  EXPECT_NEAR((gib("--weights f32") - gib("")) * 0x1p30, widened - stored, 0.01 * widened);
}

// A model is opened without its matrices in f32, which may be more than there is memory.
TEST_F(StoredWeights, AreOpenedInTheirOwnSize) {
  const LlamaCheckpoint checkpoint = open_llama_checkpoint(at("mixed.gguf"));
  double widened = 0;
  for (const TensorEntry& entry : checkpoint.weights->entries())
    widened += 4 * static_cast<double>(entry.count);
  for (const bool as_stored : {true, false}) {
    reset_peak_memory();
    const int64_t before = memory_use().live;
    const auto model = load_llama(checkpoint, {.as_stored = as_stored});
    const auto peak = static_cast<double>(memory_use().peak - before);
    EXPECT_LT(peak / widened, as_stored ? 0.35 : 1.1);
    EXPECT_GT(peak / widened, as_stored ? 0.1 : 1.0);
  }
}

TEST_F(StoredWeights, TellThatTheCpuMultipliesThemInF32) {
  const std::string ppl = "eval_llama ppl --data t.bin --ctx-size 32 --threads 1 --device cpu ";
  const Answer told = run(ppl + "-m mixed.gguf --amp bf16");
  EXPECT_EQ(told.code, 0) << told.log;
  EXPECT_NE(told.log.find("--amp bf16: has no effect"), std::string::npos) << told.log;
  const Answer trained = run(train_ + "-m mixed.gguf --device cpu --amp bf16 --name amp");
  EXPECT_EQ(trained.code, 0) << trained.log;
  EXPECT_NE(trained.log.find("--amp bf16: has no effect"), std::string::npos) << trained.log;
  const Answer used = run(ppl + "-m mixed.gguf --amp bf16 --weights bf16");
  EXPECT_EQ(used.log.find("has no effect") == std::string::npos, cpu::has_bf16_products())
      << used.log;
}

TEST_F(StoredWeights, RefuseWhatCannotBe) {
  refused(train_ + "-m mixed.gguf --full --weights stored", 2, {"stored", "--full"});
  const Answer whole = run(train_ + "-m mixed.gguf --full --name whole");
  EXPECT_EQ(whole.code, 0) << whole.log;
  std::string bytes = test::contents(at("mixed.gguf"));
  const GgufFile file(at("mixed.gguf"));
  const TensorEntry& entry = file.at("blk.1.attn_q.weight");
  for (const uint16_t scale : {0x7e00, 0xfc00}) {  // NaN, minus infinity
    // Under the file's own name, in its own order of rows: this one is another row of the model.
    std::memcpy(bytes.data() + entry.offset + entry.bytes / static_cast<uint64_t>(entry.shape[0]),
                &scale, sizeof scale);
    std::ofstream(at("bad.gguf"), std::ios::binary) << bytes;
    for (const std::string held : {"stored", "f32"})
      refused("eval_llama ppl --data t.bin --ctx-size 32 -m bad.gguf --weights " + held, 3,
              {concat("bad.gguf: blk.1.attn_q.weight: element ", entry.shape[1], " is "),
               concat("the scale of block ", entry.shape[1] / 256, " of Q4_K is not finite")});
  }
  // The description of a tensor: name, u32 axes, u64 of each, the innermost first, u32 type.
  const size_t axes = bytes.find("blk.1.attn_q.weight") + std::strlen("blk.1.attn_q.weight");
  const auto change = [&](size_t at_byte, uint32_t value, const std::string& name) {
    std::string changed = bytes;
    std::memcpy(changed.data() + at_byte, &value, sizeof value);
    std::ofstream(at(name), std::ios::binary) << changed;
  };
  change(axes + 20, 16, "unknown.gguf");
  refused("tool_llama bench -m unknown.gguf", 3,
          {"unknown.gguf", "blk.1.attn_q.weight", "IQ2_XXS", "not read", "Q4_K"});
  change(axes + 20, 99, "number.gguf");
  refused("chat_llama complete -p ba -m number.gguf", 3, {"blk.1.attn_q.weight", "99", "Q4_K"});
  change(axes + 4, 255, "width.gguf");
  refused("eval_llama ppl --data t.bin --ctx-size 32 -m width.gguf", 3,
          {"width.gguf", "blk.1.attn_q.weight", "255", "no whole number of Q4_K blocks of 256"});
  std::ofstream(at("short.gguf"), std::ios::binary) << bytes.substr(0, bytes.size() - 4000);
  refused("eval_llama ppl --data t.bin --ctx-size 32 -m short.gguf", 3, {"short.gguf", "ends at"});
}

}  // namespace
}  // namespace mullion
