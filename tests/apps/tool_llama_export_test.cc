// tool_llama export, info and compare on a tiny model and an adapter of it.
#include "models/llama/checkpoint_names.h"
#include "models/llama/load.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"
#include "tests/io_builders.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class ToolLlamaExport : public test::Programs {
 protected:
  ToolLlamaExport() : Programs({"tool_llama", "train_llama", "eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    test::write_lexicon_tokens(at("t.bin"), 12);
    write_whole_file(at("text.txt"), text());
  }
  static std::string text() {
    std::string words;
    for (int i = 0; i < 400; ++i) words += i % 7 ? "a " : "b ";
    return words;
  }
  void train(const std::string& options) {
    const test::Answer trained =
        run("train_llama pretrain -m base --data t.bin --ctx-size 128 --attn full --lora-rank 2 "
            "--lr 0.05 --warmup-steps 0 --max-steps 2 --grad-accum-steps 1 --threads 1 --output "
            "runs --name a " +
            options);
    ASSERT_EQ(trained.code, 0) << trained.log;
  }
  double perplexity(const std::string& model) {
    return result("eval_llama ppl --data t.bin --ctx-size 128 --threads 1 --json " + model)
        .value("perplexity", 0.0);
  }
  nlohmann::json exported(const std::string& arguments) {
    return result("tool_llama export --threads 1 --json " + arguments);
  }
};

TEST_F(ToolLlamaExport, AGgufFileIsTheSameModel) {
  train("");
  const auto made = exported("-m runs/a --format gguf -o m.gguf");
  EXPECT_EQ(made.value("type", ""), "F32");
  EXPECT_LT(made.value("logit_difference", 1.0), 1e-4);
  EXPECT_NEAR(perplexity("-m m.gguf"), perplexity("-m runs/a"), 1e-4);
  const auto info = result("tool_llama info m.gguf --json");
  EXPECT_EQ(info.value("context", 0), 128);
  EXPECT_EQ(info.value("vocab_size", 0), kLexiconVocab);
  EXPECT_EQ(info["tokenizer"]["sha256"],
            result("tool_llama info base --json")["tokenizer"]["sha256"]);
  const auto compared = result(
      "tool_llama compare m.gguf runs/a --data text.txt --ctx-size 64 "
      "-n 20 --threads 1 --json");
  EXPECT_LT(compared.value("weight_difference", 1.0), 1e-6);
  EXPECT_TRUE(compared["greedy_parts_at"].is_null());
  EXPECT_GT(
      result("tool_llama compare m.gguf base --threads 1 --json").value("logit_difference", 0.0),
      0.1);
  // And back into a folder.
  exported("-m m.gguf --format hf -o folder");
  EXPECT_NEAR(perplexity("-m folder"), perplexity("-m m.gguf"), 1e-9);
}

TEST_F(ToolLlamaExport, BlocksSayWhatTheyCost) {
  double last = 0;
  for (const char* type : {"f16", "bf16", "q8_0", "q5_1", "q4_0"}) {
    const std::string file = std::string(type) + ".gguf";
    const auto made = exported(std::string("-m base --format gguf --check text.txt --type ") +
                               type + " -o " + file);
    EXPECT_GT(made.value("perplexity_before", 0.0), 1.0);
    EXPECT_NEAR(made.value("perplexity_after", 0.0) / made.value("perplexity_before", 1.0), 1, 0.2)
        << type;
    EXPECT_EQ(static_cast<uint64_t>(made.value("bytes", 0)), fs::file_size(at(file)));
    last = made.value("logit_difference", 0.0);
  }
  EXPECT_GT(last, 0.001);
  // The rows of down_proj (48) are no whole blocks; the embedding keeps 8 bits.
  const GgufFile q4(at("q4_0.gguf"));
  EXPECT_EQ(q4.at("blk.0.attn_q.weight").type, StoredType::q4_0);
  EXPECT_EQ(q4.at("blk.0.ffn_down.weight").type, StoredType::f16);
  EXPECT_EQ(q4.at("token_embd.weight").type, StoredType::q8_0);
  EXPECT_EQ(q4.at("output_norm.weight").type, StoredType::f32);
}

// Rows of 256 and of 96: what is a whole number of blocks is in them, the rest in llama.cpp's next
// best, which is said.
TEST_F(ToolLlamaExport, BlocksOf256) {
  LlamaConfig config = test::tiny_config();
  config.hidden_size = 96;
  config.head_dim = 24;
  config.intermediate_size = 256;
  config.max_position_embeddings = 128;
  test::write_tiny_llama(at("wide"), config);
  struct Row {
    const char* name;
    StoredType type, next_best;
  };
  for (const Row& row : {Row{"q4_k", StoredType::q4_k, StoredType::q5_0},
                         Row{"q5_k", StoredType::q5_k, StoredType::q5_1},
                         Row{"q6_k", StoredType::q6_k, StoredType::q8_0}}) {
    const std::string file = std::string(row.name) + ".gguf";
    const test::Answer made =
        run("tool_llama export --threads 1 -m wide --format gguf --check text.txt --type " +
            std::string(row.name) + " -o " + file);
    ASSERT_EQ(made.code, 0) << made.log;
    for (const std::string& said :
         {"q_proj is in " + std::string(name_of(row.next_best)), std::string("rows of 96")})
      EXPECT_NE(made.log.find(said), std::string::npos) << made.log;
    EXPECT_EQ(made.log.find("down_proj"), std::string::npos) << made.log;
    EXPECT_EQ(made.log.find("embed_tokens"), std::string::npos) << made.log;
    const GgufFile written(at(file));
    EXPECT_EQ(written.at("blk.0.ffn_down.weight").type, row.type);
    EXPECT_EQ(written.at("blk.0.attn_q.weight").type, row.next_best);
    EXPECT_EQ(written.at("token_embd.weight").type, StoredType::q8_0);
    // Mixed types in one file are a model like any other.
    EXPECT_NEAR(perplexity("-m " + file) / perplexity("-m wide"), 1, 0.05) << row.name;
  }
}

TEST_F(ToolLlamaExport, QuantizeIsAnExport) {
  exported("-m base --format gguf --type q4_1 -o export.gguf");
  const auto made =
      result("tool_llama quantize -m base --type q4_1 -o quantize.gguf --check text.txt --json");
  EXPECT_GT(made.value("perplexity_after", 0.0), 1.0);
  EXPECT_EQ(test::contents(at("quantize.gguf")), test::contents(at("export.gguf")));
  refused("tool_llama quantize -m base --type q4_1 -o quantize.gguf", 2, {"exists"});
  // The plan is that of the file: its size is that of its tensors and a header.
  const test::Answer plan = run("tool_llama quantize -m base --type q4_1 -o plan.gguf --dry-run");
  EXPECT_EQ(plan.code, 0) << plan.log;
  for (const char* word : {"plan.gguf: Q4_1", " in Q4_1 (", " in Q8_0 (", " in F32 (", "would"})
    EXPECT_NE(plan.last.find(word), std::string::npos) << plan.last;
  EXPECT_FALSE(std::filesystem::exists(at("plan.gguf")));
  const auto planned =
      result("tool_llama quantize -m base --type q4_1 -o plan.gguf --dry-run --json");
  const auto size = std::filesystem::file_size(at("quantize.gguf"));
  EXPECT_LT(planned["tensor_bytes"], size);
  EXPECT_GT(planned["tensor_bytes"], size / 2);
  refused("tool_llama quantize -m base -o new.gguf", 2, {"--type"});
  refused("tool_llama quantize -m base --type q2_k -o new.gguf", 2, {"q2_k", "q4_k"});
}

TEST_F(ToolLlamaExport, RopeScalingGoesAlong) {
  LlamaConfig config = test::tiny_config();
  config.rope_scaling = {RopeScaling::Kind::llama3, 8, 1, 4, 16};
  test::write_tiny_llama(at("llama3"), config);
  exported("-m llama3 --format gguf -o llama3.gguf");
  EXPECT_EQ(open_llama_checkpoint(at("llama3.gguf")).config.rope_scaling, config.rope_scaling);
  config.rope_scaling = {RopeScaling::Kind::linear, 2, 1, 4, 64};
  config.max_position_embeddings = 128;
  test::write_tiny_llama(at("linear"), config);
  exported("-m linear --format gguf -o linear.gguf");
  EXPECT_EQ(open_llama_checkpoint(at("linear.gguf")).config.rope_scaling, config.rope_scaling);
  // No file of ours holds one that depends on the length.
  auto json = read_json_file(at("base/config.json"));
  json["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}};
  write_json_file(at("base/config.json"), json);
  refused("tool_llama export -m base --format gguf -o x.gguf", 3, {"dynamic", "config.json"});
  EXPECT_FALSE(fs::exists(at("x.gguf")));
}

// W + alpha / r B A from the file, its rows turned back, is what merging gives.
TEST_F(ToolLlamaExport, AGgufAdapterIsTheSamePairs) {
  train("--train-also none");
  exported("-m runs/a --format gguf-lora -o a.gguf");
  ASSERT_EQ(run("tool_llama merge -m runs/a -o merged --threads 1").code, 0);
  const GgufFile lora(at("a.gguf"));
  EXPECT_EQ(lora.get_string("general.type"), "adapter");
  const auto merged = open_safetensors(at("merged")), base = open_safetensors(at("base"));
  for (const char* hf :
       {"model.layers.1.self_attn.q_proj.weight", "model.layers.0.self_attn.o_proj.weight"}) {
    const std::string name = *gguf_name_of(hf);
    const auto a = test::floats_of(lora, name + ".lora_a");
    auto b = test::floats_of(lora, name + ".lora_b");
    const int64_t rank = lora.at(name + ".lora_a").shape.at(0);
    const int64_t width = lora.at(name + ".lora_a").shape.at(1);
    const auto scale = static_cast<float>(lora.get_number("adapter.lora.alpha") / rank);
    if (has_rotary_rows(hf))
      for (size_t at = 0; at < b.size(); at += static_cast<size_t>(8 * rank))
        interleaved_to_half_split(
            std::as_writable_bytes(std::span(b).subspan(at, static_cast<size_t>(8 * rank))), 8);
    const auto w = test::floats_of(*base, hf), right = test::floats_of(*merged, hf);
    float largest = 0, moved = 0;
    for (size_t i = 0; i < w.size(); ++i) {
      float sum = 0;
      for (int64_t k = 0; k < rank; ++k)
        sum +=
            b[i / static_cast<size_t>(width) * static_cast<size_t>(rank) + static_cast<size_t>(k)] *
            a[static_cast<size_t>(k * width) + i % static_cast<size_t>(width)];
      largest = std::max(largest, std::abs(w[i] + scale * sum - right[i]));
      moved = std::max(moved, std::abs(w[i] - right[i]));
    }
    EXPECT_LT(largest, 1e-6f) << hf;
    EXPECT_GT(moved, 1e-3f) << hf;
  }
  // As PEFT's folder it is the adapter it was.
  exported("-m runs/a --format peft -o peft");
  EXPECT_NEAR(perplexity("-m base --adapter peft"), perplexity("-m runs/a"), 1e-9);
}

TEST_F(ToolLlamaExport, RefusesWhatAFormatCannotHold) {
  train("");  // with embedding and norms
  refused("tool_llama export -m runs/a --format gguf-lora -o a.gguf", 2,
          {"embed_tokens", "GGUF adapter", "--format gguf"});
  refused("tool_llama export -m runs/a --format gguf-lora -o a.gguf --dry-run", 2,
          {"embed_tokens", "GGUF adapter"});
  refused("tool_llama export -m base --format gguf-lora -o a.gguf", 2, {"--adapter"});
  refused("tool_llama export -m base --format hf --type q4_0 -o x", 2, {"--type q4_0", "gguf"});
  refused("tool_llama export -m base --format hf --check text.txt -o x", 2, {"--check"});
  write_whole_file(at("there.gguf"), "mine");
  refused("tool_llama export -m base --format gguf -o there.gguf", 2, {"there.gguf", "exists"});
  EXPECT_EQ(test::contents(at("there.gguf")), "mine");
  // A disk that fills up, as far as a limit on the size of files does the same.
  const auto full =
      run("trap '' XFSZ; ulimit -f 8; tool_llama export --no-verify -m base --format "
          "gguf -o x.gguf");
  EXPECT_EQ(full.code, 4) << full.log;
  EXPECT_FALSE(fs::exists(at("x.gguf")));
  for (const auto& entry : fs::directory_iterator(at(".")))
    EXPECT_EQ(entry.path().filename().string().find(".tmp-"), std::string::npos) << entry.path();
  LlamaConfig larger = test::tiny_config();
  larger.vocab_size += 8;
  test::write_tiny_llama(at("larger"), larger);
  refused("tool_llama compare base larger", 2, {"tokens", "larger"});
}

}  // namespace
}  // namespace mullion
