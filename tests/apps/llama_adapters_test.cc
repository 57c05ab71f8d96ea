// Training by LoRA as a user calls it: that every pattern trains and its adapter means the same
// everywhere, how it is written, and how training starts from one.
#include <map>
#include <set>

#include "apps/llama/attention_options.h"
#include "models/llama/peft.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/llama_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class LlamaAdapters : public test::LlamaPrograms {};

// Who sees whom by sinklora.md's rule: segments of 16 among 64 tokens, those of the heads from
// `first` on moved by 8, and the sinks.
double fraction_of_full(int64_t first, int64_t sinks) {
  int64_t pairs = 0;
  for (int64_t h = 0; h < 4; ++h)
    for (int64_t i = 0; i < 64; ++i)
      for (int64_t j = 0; j <= i; ++j) {
        const int64_t shift = h >= first ? 8 : 0;
        pairs += (i + shift) / 16 == (j + shift) / 16 || j < sinks;
      }
  return static_cast<double>(pairs) / (4 * 64 * 65 / 2);
}

TEST_F(LlamaAdapters, EveryPresetTrainsAndItsAdapterMeansTheSameElsewhere) {
  struct Known {
    std::string heads;
    int64_t first, sinks;
  };
  const std::string two = "heads 2..3 of 4 shifted by 8 (50.0 %)",
                    one = "heads 3..3 of 4 shifted by 8 (25.0 %)";
  const std::map<std::string, Known> known = {
      {"s2", {two, 2, 0}}, {"s2-global", {two, 2, 4}}, {"s2-sr", {one, 3, 0}}, {"sf", {one, 3, 4}}};
  std::map<std::string, double> losses;
  for (const std::string& preset : pattern_names()) {
    const Answer trained =
        run(lora_ + "-b 8 --lr 1e-2 --max-steps 25 --attn " + preset + " --name " + preset);
    ASSERT_EQ(trained.code, 0) << preset << trained.log;
    const std::string banner = "attention  " + preset + ": ";
    ASSERT_NE(trained.log.find(banner), std::string::npos) << trained.log;
    std::string line = trained.log.substr(trained.log.find(banner));
    line = line.substr(0, line.find('\n'));
    if (known.contains(preset)) {
      const Known& k = known.at(preset);
      char seen[80];
      std::snprintf(seen, sizeof seen, "%.1f %% of full attention's pairs at 64 tokens",
                    100 * fraction_of_full(k.first, k.sinks));
      EXPECT_EQ(line, banner + "segments of 16, " + k.heads + ", " + std::to_string(k.sinks) +
                          " sinks, " + seen);
    }
    EXPECT_NE(trained.log.find("LoRA r 4, alpha 16 + embedding + norms"), std::string::npos);
    // The file, read back by another program, is the model that was trained.
    losses[preset] = trained.json()["eval_loss"];
    EXPECT_NEAR(nll("-m base --adapter runs/" + preset + "/last/adapter"), losses[preset], 1e-6)
        << preset;
    const auto lines = metrics("runs/" + preset);
    EXPECT_LT(lines[24]["loss"], lines[0]["loss"].get<double>() - 0.1) << preset;
  }
  // Different attention, different training.
  std::set<double> different;
  for (const auto& [preset, loss] : losses) different.insert(loss);
  EXPECT_EQ(different.size(), losses.size());
}

TEST_F(LlamaAdapters, AdaptersAreWrittenAsPeftReadsThem) {
  ASSERT_EQ(run(lora_ + "--max-steps 1 --attn sf --lora-targets q_proj,up_proj --name a").code, 0);
  const fs::path adapter = at("runs/a/last/adapter");
  const SafetensorsFile file(adapter / "adapter_model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  std::set<std::string> expected = {"base_model.model.model.embed_tokens.weight",
                                    "base_model.model.model.norm.weight"};
  for (const char* layer : {"0", "1"}) {
    const std::string prefix = std::string("base_model.model.model.layers.") + layer;
    for (const char* end : {".input_layernorm.weight", ".post_attention_layernorm.weight",
                            ".self_attn.q_proj.lora_A.weight", ".self_attn.q_proj.lora_B.weight",
                            ".mlp.up_proj.lora_A.weight", ".mlp.up_proj.lora_B.weight"})
      expected.insert(prefix + end);
  }
  const auto names = file.names();
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()), expected);
  const std::string q = "base_model.model.model.layers.1.self_attn.q_proj.lora_";
  EXPECT_EQ(file.at(q + "A.weight").shape, (std::vector<int64_t>{4, 32}));
  EXPECT_EQ(file.at(q + "B.weight").shape, (std::vector<int64_t>{32, 4}));
  EXPECT_EQ(file.at(q + "A.weight").type, StoredType::f32);
  const auto config = read_json_file(adapter / "adapter_config.json");
  EXPECT_EQ(config["r"], 4);
  EXPECT_EQ(config["lora_alpha"], 16);
  EXPECT_EQ(config["target_modules"], (nlohmann::json{"q_proj", "up_proj"}));
  EXPECT_EQ(config["task_type"], "CAUSAL_LM");
  const auto note = read_longctx(adapter);
  ASSERT_TRUE(note);
  EXPECT_EQ(note->attention_preset, "sf");
  EXPECT_EQ(note->group, 16);
  EXPECT_EQ(note->sinks, 4);
  EXPECT_EQ(note->trained, (std::vector<std::string>{"lora", "embed", "norm"}));
}

TEST_F(LlamaAdapters, AnInitialAdapterIsWhereTrainingStarts) {
  ASSERT_EQ(run(lora_ + "--max-steps 4 --attn sf --name a").code, 0);
  const std::string from = lora_ + "--initial-adapter runs/a/last/adapter ";
  // Without a learning rate it stays what it is, to the bit; its loss is the adapter's.
  const auto still = result(from + "--max-steps 2 --lr 0 --attn full --no-shuffle --name still");
  EXPECT_TRUE(contents(at("runs/a/last/adapter/adapter_model.safetensors")) ==
              contents(at("runs/still/last/adapter/adapter_model.safetensors")));
  EXPECT_NEAR(still["eval_loss"], nll("-m base --adapter runs/a/last/adapter"), 1e-6);
  const auto ppl = result(
      "eval_llama ppl -m base --adapter runs/a --data train.bin --ctx-size 64 "
      "--stride 64 --max-windows 2 --threads 1 --json");
  EXPECT_NEAR(metrics("runs/still")[0]["loss"], ppl["nll"].get<double>(), 1e-6);
  const auto on = result(from + "--max-steps 4 --attn sf --name on");
  EXPECT_NE(on["eval_loss"], still["eval_loss"]);

  refused(from + "--lora-rank 8 --name x", 2, {"--lora-rank 8", "rank 4"});
  refused(from + "--train-also none --name x", 3, {"adapter_model", "embed_tokens"});
  refused(from + "--lora-targets q_proj --name x", 3, {"adapter_model", "k_proj"});
  refused(lora_ + "--initial-adapter base --name x", 3, {"base/adapter_config.json"});
  refused(common_ + "-m base --full --initial-adapter runs/a --name x", 2, {"--initial-adapter"});
  EXPECT_FALSE(fs::exists(at("runs/x")));
}

TEST_F(LlamaAdapters, LoraDropoutActsTravelsWithTheAdapterAndGoesOnToTheSameBits) {
  const std::string train = lora_ + "--attn sf --max-steps 6 --save-every 1 --grad-accum-steps 2 ",
                    adapter = "last/adapter/adapter_model.safetensors";
  ASSERT_EQ(run(train + "--lora-dropout 0.3 --name whole").code, 0);
  ASSERT_EQ(run(train + "--name without").code, 0);
  EXPECT_FALSE(contents(at("runs/whole/" + adapter)) == contents(at("runs/without/" + adapter)));
  const auto config =
      nlohmann::json::parse(contents(at("runs/whole/last/adapter/adapter_config.json")));
  EXPECT_EQ(config["lora_dropout"], 0.3);
  const Answer cut =
      stop(train + "--lora-dropout 0.3 --name cut", "runs/cut/checkpoint-000002/COMPLETE", "KILL");
  ASSERT_TRUE(cut.code == 137 || cut.code == 0) << cut.log;
  for (const char* later : {"3", "4", "5", "6"})
    fs::remove_all(at(std::string("runs/cut/checkpoint-00000") + later));
  const Answer resumed =
      run(train + "--lora-dropout 0.3 --name cut --resume auto --grad-checkpointing");
  ASSERT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("but        model.grad_checkpointing is true, was false"),
            std::string::npos)
      << resumed.log;
  same_runs("runs/whole", "runs/cut", {adapter, "last/optimizer.safetensors"});
  // The adapter's own, unless the flag says another.
  const std::string from = lora_ + "--initial-adapter runs/whole --dry-run ";
  EXPECT_NE(run(from).log.find("dropout 0.3"), std::string::npos);
  EXPECT_EQ(run(from + "--lora-dropout 0 --max-steps 40").log.find("dropout"), std::string::npos);
  refused(lora_ + "--lora-dropout 1", 2, {"--lora-dropout", "1"});
  refused(common_ + "-m base --full --lora-dropout 0.1", 2, {"--lora-dropout"});
}

// transformers applies it in training alone.
TEST_F(LlamaAdapters, AttentionDropoutIsRefusedInTrainingAndNeutralElsewhere) {
  const double before = nll("-m base");
  auto config = nlohmann::json::parse(contents(at("base/config.json")));
  config["attention_dropout"] = 0.1;
  write_json_file(at("base/config.json"), config);
  refused(lora_ + "--name x", 2, {"base", "attention_dropout 0.1", "config.json"});
  EXPECT_EQ(nll("-m base"), before);
}

TEST_F(LlamaAdapters, PairsAloneStartWhereTheBaseHasTheRest) {
  ASSERT_EQ(run(lora_ + "--train-also none --max-steps 4 --attn full --name pairs").code, 0);
  const std::string from = lora_ + "--initial-adapter runs/pairs --train-also embed,norm ";
  const Answer still = run(from + "--max-steps 1 --lr 0 --attn full --name still");
  ASSERT_EQ(still.code, 0) << still.log;
  EXPECT_NE(still.log.find("start from the base: model.embed_tokens.weight"), std::string::npos)
      << still.log;
  const double pairs = nll("-m base --adapter runs/pairs");
  EXPECT_NEAR(still.json()["eval_loss"], pairs, 1e-6);
  EXPECT_NEAR(nll("-m base --adapter runs/still"), pairs, 1e-6);
  EXPECT_NE(pairs, nll("-m base"));
  // What the adapter says it has must be there, and its scale is its own.
  auto config = read_json_file(at("runs/pairs/last/adapter/adapter_config.json"));
  config["modules_to_save"] = {"embed_tokens"};
  fs::create_directories(at("cut"));
  for (const char* name : {"adapter_model.safetensors", "longctx.json"})
    fs::copy(at("runs/pairs/last/adapter") / name, at("cut") / name);
  write_json_file(at("cut/adapter_config.json"), config);
  refused(lora_ + "--initial-adapter cut --name x", 3, {"embed_tokens", "missing"});
  refused(from + "--lora-alpha 32 --name x", 2, {"--lora-alpha 32", "has 16"});
}

TEST_F(LlamaAdapters, ARunOfLoraIsABaseWithAnAdapter) {
  ASSERT_EQ(run(lora_ + "--max-steps 4 --attn sf --name a --base-name someone/tiny").code, 0);
  const double both = nll("-m base --adapter runs/a");
  for (const char* path : {"runs/a", "runs/a/last", "runs/a/last/adapter"})
    EXPECT_EQ(nll(concat("-m ", path)), both) << path;
  EXPECT_NE(both, nll("-m base"));
  const auto config = read_json_file(at("runs/a/last/adapter/adapter_config.json"));
  EXPECT_EQ(config["base_model_name_or_path"], "someone/tiny");
  const Answer said = run("chat_llama complete -m runs/a -p ba= -n 1 --threads 1");
  EXPECT_EQ(said.code, 0) << said.log;
  EXPECT_NE(said.log.find("runs/a/last/adapter"), std::string::npos) << said.log;
  EXPECT_EQ(run("data_llama show -m runs/a --text ba=").code, 0);
  // Training goes on from the adapter.
  const auto still = result(lora_ + "-m runs/a --max-steps 1 --lr 0 --attn full --name still");
  EXPECT_NEAR(still["eval_loss"], both, 1e-6);
  EXPECT_EQ(nll("-m runs/still"), nll("-m base --adapter runs/still"));
  refused(lora_ + "-m runs/a --initial-adapter runs/still --name x", 2, {"already"});
  refused(common_ + "-m runs/a --full --name x", 2, {"runs/a/last/adapter", "--full"});
  refused("eval_llama ppl --data val.bin -m runs/a --adapter runs/still", 2, {"already"});
  // A base that is gone is named; one that has changed, warned of.
  fs::rename(at("base"), at("moved"));
  refused("eval_llama ppl --data val.bin -m runs/a", 2, {"someone/tiny", "base", "not there"});
  EXPECT_EQ(nll("-m moved --adapter runs/a"), both);
  test::write_tiny_llama(at("base"), test::tiny_config(), 2);
  EXPECT_NE(run("eval_llama ppl --data val.bin --ctx-size 64 --threads 1 -m runs/a")
                .log.find("other weights"),
            std::string::npos);
}

TEST_F(LlamaAdapters, AnAdapterOfAnExtendedModelSaysWhatPeftLeavesOut) {
  const Answer trained =
      run("train_llama pretrain --data train.bin -m base --ctx-size 128 --output runs --attn sf "
          "--warmup-steps 0 --grad-accum-steps 1 --max-steps 2 --threads 1 --name long");
  ASSERT_EQ(trained.code, 0) << trained.log;
  const std::string card = contents(at("runs/long/last/adapter/README.md"));
  EXPECT_EQ(card.find("This adapter needs the base with other positions"), 0u) << card;
  for (const char* line :
       {"rope_scaling={\"factor\":2.0,\"rope_theta\":10000.0,\"rope_type\":\"linear\"}",
        "max_position_embeddings=128", "PeftModel.from_pretrained(base"}) {
    EXPECT_NE(card.find(line), std::string::npos) << line << "\n" << card;
    EXPECT_NE(trained.log.find(line), std::string::npos) << line << "\n" << trained.log;
  }
  // Going on keeps its scaling, though these rows would fit without.
  const Answer on = run(lora_ + "--initial-adapter runs/long --max-steps 1 --lr 0 --name on");
  EXPECT_EQ(on.code, 2);  // rank 8
  const Answer again =
      run(common_ + "-m runs/long -b 2 --grad-accum-steps 1 --max-steps 1 --name on");
  ASSERT_EQ(again.code, 0) << again.log;
  EXPECT_NE(again.log.find("rope linear, factor 2"), std::string::npos) << again.log;
  // A plain one has nothing to say.
  ASSERT_EQ(run(lora_ + "--max-steps 1 --name plain").code, 0);
  EXPECT_EQ(contents(at("runs/plain/last/adapter/README.md")).find("A LoRA adapter of base"), 0u);
}

}  // namespace
}  // namespace mullion
