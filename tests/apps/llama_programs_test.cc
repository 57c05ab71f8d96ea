// train_llama as a user calls it, on a model of a few thousand parameters: what a run leaves and
// says, that adapters mean the same everywhere, and that a stopped run goes on to the same bits.
#include <cmath>

#include "apps/llama/attention_options.h"
#include "models/llama/peft.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Answer;
using test::contents;
using test::kTinyContext;

class LlamaPrograms : public test::Programs {
 protected:
  LlamaPrograms() : Programs({"train_llama", "eval_llama", "data_llama", "chat_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    test::write_lexicon_tokens(at("train.bin"), 24);
    test::write_lexicon_tokens(at("val.bin"), 6, kTinyContext, 1000);
  }
  // The mean loss over the first four rows of val.bin, which a run's evaluation sees as well.
  double nll(const std::string& model) const {
    const auto found = result("eval_llama ppl --data val.bin --ctx-size 64 --stride 64 " + model +
                              " --threads 1 --json");
    EXPECT_EQ(found["windows"], 4);
    EXPECT_EQ(found["tokens"], 4 * 63);
    EXPECT_NEAR(found["perplexity"], std::exp(found["nll"].get<double>()), 1e-9);
    return found["nll"];
  }

  const std::string common_ =
      "train_llama pretrain --data train.bin --val-data val.bin --eval-max-rows 4 --ctx-size 64 "
      "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 --json ";
  const std::string lora_ = common_ + "-m base --lora-rank 4 -b 2 --grad-accum-steps 1 ";
};

TEST_F(LlamaPrograms, ATrainingThatEndsWithStepsLeftOutHasDiverged) {
  refused(lora_ + "--max-steps 4 --lr 1e30", 5, {"diverged", "ends with"});
}

TEST_F(LlamaPrograms, RatesThatCannotBeMeantAreToldOrRefused) {
  const auto log = [&](const std::string& flags) {
    const Answer answer = run(lora_ + "--dry-run --max-steps 10 " + flags);
    EXPECT_EQ(answer.code, 0) << answer.log;
    return answer.log;
  };
  EXPECT_EQ(log("--warmup-steps 9").find("warning: the warm-up"), std::string::npos);
  EXPECT_NE(log("--warmup-steps 20 --lr 1e-3")
                .find("warning: the warm-up takes 20 steps, the training 10 steps: the rate ends "
                      "at 0.00045 and never reaches 0.001"),
            std::string::npos);
  EXPECT_NE(log("--lr 0").find("warning: the learning rate is 0"), std::string::npos);
  EXPECT_NE(log("--min-lr 1e-5").find("warning: --min-lr 1e-05: has no effect"), std::string::npos);
  EXPECT_NE(log("-b 1000").find("rows repeat within a step"), std::string::npos);
  refused(lora_ + "--lr-schedule cosine --min-lr 1", 2, {"--min-lr 1", "0.003"});
  refused(lora_ + "--lr 0 --lr-embed 1e-3", 2, {"--lr-embed"});
  refused(lora_ + "--warmup-steps -1", 2, {"--warmup-steps", "-1"});
}

// 24 rows of 64 tokens, read as rows of 50: 36 tokens are left at the end of the file.
TEST_F(LlamaPrograms, ThePlanSaysWhatATrainingTakes) {
  const Answer plan = run(lora_ + "--ctx-size 50 --max-steps 24 --dry-run");
  ASSERT_EQ(plan.code, 0) << plan.log;
  EXPECT_NE(plan.log.find("plan       24 steps, 1.6 passes over 30 rows of 50 tokens; 36 of 1536 "
                          "tokens, at the ends of files, fill no row and are left out\n"),
            std::string::npos)
      << plan.log;
  const json facts = plan.json();
  EXPECT_EQ(facts["steps"], 24);
  EXPECT_EQ(facts["passes"], 1.6);
  EXPECT_EQ(facts["dropped"], 36);
  EXPECT_GT(facts["hours"], 0);
  EXPECT_NE(facts["hours_from"].get<std::string>().find("an estimate"), std::string::npos);
  EXPECT_NE(plan.log.find("time       about "), std::string::npos) << plan.log;
  EXPECT_NE(plan.log.find(" of memory; a checkpoint takes about "), std::string::npos) << plan.log;
  EXPECT_NE(run(lora_ + "--max-steps 4800 --dry-run")
                .log.find("warning: 4800 steps are 400 passes over 24 rows of 64 tokens"),
            std::string::npos);
  EXPECT_EQ(run(lora_ + "--epochs 400 --dry-run").log.find("by heart"), std::string::npos);
}

TEST_F(LlamaPrograms, TheEndSaysWhatWasSavedAndWhatToDoNext) {
  const Answer trained = run(lora_ + "--max-steps 2 --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  const size_t saved = trained.log.find("saved      runs/a/last (step 2, ");
  ASSERT_NE(saved, std::string::npos) << trained.log;
  const std::string end = trained.log.substr(saved);
  EXPECT_NE(end.find(" and runs/a/best (step 2, loss "), std::string::npos) << end;
  for (const char* command :
       {"eval_llama ppl --model runs/a/best --data val.bin --ctx-size 64\n",
        "chat_llama complete --model runs/a/best --prompt 'Once upon a time' --max-tokens 64\n"}) {
    ASSERT_NE(end.find(command), std::string::npos) << end;
    const Answer next = run(std::string(command).substr(0, std::string(command).size() - 1));
    EXPECT_EQ(next.code, 0) << command << next.log;
  }
  // The same training by the run's folder alone, which has --epochs, not --max-steps.
  ASSERT_EQ(run(lora_ + "--epochs 0.5 --save-every 3 --name whole").code, 0);
  ASSERT_EQ(run(lora_ + "--epochs 0.5 --save-every 3 --name cut").code, 0);
  fs::remove_all(at("runs/cut/checkpoint-000006"));
  const Answer resumed = run("train_llama pretrain --resume runs/cut --threads 1");
  ASSERT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed at step 3"), std::string::npos) << resumed.log;
  same_runs("runs/whole", "runs/cut",
            {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors"});
  refused("train_llama sft --resume runs/cut", 2, {"train_llama pretrain"});
}

TEST_F(LlamaPrograms, TrainsFromScratch) {
  EXPECT_EQ(run("data_llama lexicon --rows 40 --length 64 --output made.bin --model-dir tiny").code,
            0);
  LlamaConfig config = test::tiny_config();
  config.initializer_range = 0.02;
  write_json_file(at("tiny/config.json"), to_json(config));
  const Answer trained =
      run(common_ +
          "--data made.bin --model-config tiny/config.json --attn full --max-steps 60 -b 8 "
          "--grad-accum-steps 1 --lr 1e-2 --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_EQ(trained.json()["steps"], 60);
  EXPECT_EQ(trained.json()["run"], "runs/a");
  EXPECT_NE(trained.log.find("(from scratch)"), std::string::npos) << trained.log;
  const auto lines = metrics("runs/a");
  ASSERT_EQ(lines.size(), 61u);
  for (size_t i = 0; i < 60; ++i) {
    EXPECT_EQ(lines[i]["step"], i + 1);
    EXPECT_EQ(lines[i]["split"], "train");
    EXPECT_EQ(lines[i]["tokens"], 8 * 64);
    for (const char* key : {"loss", "lr", "grad_norm", "epoch"})
      EXPECT_TRUE(lines[i][key].is_number()) << key;
  }
  EXPECT_EQ(lines[60]["split"], "val");
  EXPECT_NEAR(lines[0]["loss"], std::log(194.0), 0.1);  // it knows nothing
  // Keys and values alternate and a key has three successors: far below a uniform guess.
  EXPECT_LT(lines[59]["loss"], 4.5);
  EXPECT_LT(trained.json()["final_loss"], 4.5);
  for (const char* name :
       {"config.toml", "command.txt", "env.json", "train.log", "RUN.json", "last/COMPLETE",
        "last/optimizer.safetensors", "last/trainer_state.json", "last/model/config.json",
        "last/model/model.safetensors", "best/COMPLETE"})
    EXPECT_TRUE(fs::exists(at("runs/a") / name)) << name;
  // The result is a model by itself, with the tokenizer that lay beside the configuration.
  EXPECT_NEAR(nll("-m runs/a/last/model"), trained.json()["eval_loss"].get<double>(), 1e-6);
  EXPECT_EQ(contents(at("runs/a/last/model/tokenizer.json")), contents(at("tiny/tokenizer.json")));
  EXPECT_EQ(result("chat_llama complete -m runs/a/last/model -p 'ba=' -n 3 --json")["tokens"], 3);
  const std::string summary = contents(at("runs/a/summary.csv"));
  EXPECT_EQ(summary.rfind("step,train_loss,eval_loss,eval_perplexity,lr\n60,", 0), 0u) << summary;
}

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

TEST_F(LlamaPrograms, EveryPresetTrainsAndItsAdapterMeansTheSameElsewhere) {
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

TEST_F(LlamaPrograms, AdaptersAreWrittenAsPeftReadsThem) {
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

TEST_F(LlamaPrograms, AnInitialAdapterIsWhereTrainingStarts) {
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

TEST_F(LlamaPrograms, LoraDropoutActsTravelsWithTheAdapterAndGoesOnToTheSameBits) {
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
  ASSERT_EQ(run(train + "--lora-dropout 0.3 --name cut --resume auto --grad-checkpointing "
                        "--allow-mismatch model.grad_checkpointing")
                .code,
            0);
  same_runs("runs/whole", "runs/cut", {adapter, "last/optimizer.safetensors"});
  // The adapter's own, unless the flag says another.
  const std::string from = lora_ + "--initial-adapter runs/whole --dry-run ";
  EXPECT_NE(run(from).log.find("dropout 0.3"), std::string::npos);
  EXPECT_EQ(run(from + "--lora-dropout 0 --max-steps 40").log.find("dropout"), std::string::npos);
  refused(lora_ + "--lora-dropout 1", 2, {"--lora-dropout", "1"});
  refused(common_ + "-m base --full --lora-dropout 0.1", 2, {"--lora-dropout"});
}

// transformers applies it in training alone.
TEST_F(LlamaPrograms, AttentionDropoutIsRefusedInTrainingAndNeutralElsewhere) {
  const double before = nll("-m base");
  auto config = nlohmann::json::parse(contents(at("base/config.json")));
  config["attention_dropout"] = 0.1;
  write_json_file(at("base/config.json"), config);
  refused(lora_ + "--name x", 2, {"base", "attention_dropout 0.1", "config.json"});
  EXPECT_EQ(nll("-m base"), before);
}

TEST_F(LlamaPrograms, PairsAloneStartWhereTheBaseHasTheRest) {
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

TEST_F(LlamaPrograms, ARunOfLoraIsABaseWithAnAdapter) {
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

TEST_F(LlamaPrograms, AnAdapterOfAnExtendedModelSaysWhatPeftLeavesOut) {
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

TEST_F(LlamaPrograms, AccumulatedPassesEqualOneBigBatch) {
  // A large epsilon makes Adam's update smooth in the gradient, so that weights can be compared.
  const std::string train =
      common_ + "-m base --lora-rank 4 --attn sf --max-steps 4 --opt-eps 1e-2 ";
  ASSERT_EQ(run(train + "-b 8 --grad-accum-steps 1 --name big").code, 0);
  for (const auto& [batch, passes] : {std::pair{1, 8}, {4, 2}}) {
    const std::string name = "split" + std::to_string(batch);
    ASSERT_EQ(
        run(train + concat("-b ", batch, " --grad-accum-steps ", passes, " --name ", name)).code,
        0);
    const auto a = metrics("runs/big"), b = metrics("runs/" + name);
    ASSERT_EQ(a.size(), b.size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_NEAR(a[i]["loss"], b[i]["loss"].get<double>(), 2e-6) << i;
      if (i < 4) {
        EXPECT_EQ(a[i]["tokens"], b[i]["tokens"]);
        EXPECT_NEAR(a[i]["grad_norm"].get<double>() / b[i]["grad_norm"].get<double>(), 1, 2e-5);
      }
    }
    const SafetensorsFile x(at("runs/big/last/adapter/adapter_model.safetensors"));
    const SafetensorsFile y(at("runs/" + name + "/last/adapter/adapter_model.safetensors"));
    for (const std::string& tensor : x.names()) {
      std::vector<float> u(x.at(tensor).count), v(y.at(tensor).count);
      x.read_f32(tensor, u.data());
      y.read_f32(tensor, v.data());
      for (size_t i = 0; i < u.size(); ++i) ASSERT_NEAR(u[i], v[i], 2e-6) << tensor;
    }
  }
}

TEST_F(LlamaPrograms, AStoppedOrKilledRunGoesOnToTheSameBits) {
  const std::string train =
      lora_ + "--attn sf --max-steps 200 --eval-every 30 --save-every 10 --lr-schedule cosine ";
  const std::vector<std::string> files = {"last/adapter/adapter_model.safetensors",
                                          "last/optimizer.safetensors", "last/trainer_state.json",
                                          "last/train_state.json", "summary.csv"};
  ASSERT_EQ(run(train + "--name whole").code, 0);
  int stopped = 0;
  for (const auto& [signal, code] :
       {std::pair{"TERM", 75}, {"USR1", 75}, {"INT", 75}, {"KILL", 137}}) {
    const std::string name = std::string("cut-") + signal, folder = "runs/" + name;
    // Early, and again later.
    for (const char* checkpoint : {"/checkpoint-000010/COMPLETE", "/checkpoint-000100/COMPLETE"}) {
      const Answer cut =
          stop(train + "--name " + name + " --resume auto", folder + checkpoint, signal);
      // On a busy machine the signal may come after the end.
      ASSERT_TRUE(cut.code == code || cut.code == 0) << signal << cut.log;
      stopped += cut.code == code;
      if (cut.code == 75) {
        EXPECT_LT(cut.json()["steps"], 200);
        EXPECT_NE(cut.log.find(std::string("stopped by SIG") + signal), std::string::npos)
            << cut.log;
      }
    }
    EXPECT_EQ(result(train + "--name " + name + " --resume auto")["steps"], 200);
    same_runs("runs/whole", folder, files);
  }
  EXPECT_GT(stopped, 3);
  // A finished run is complete; another configuration does not go on from it.
  EXPECT_EQ(run(train + "--name whole --resume auto").code, 0);
  same_runs("runs/whole", "runs/cut-TERM", files);
  refused(train + "--name whole --resume auto --lr 0.5", 2, {"optim.lr", "0.5", "0.003"});
  refused(train + "--name whole --resume auto --attn s2", 2, {"attention.kind", "s2", "sf"});
  refused(train + "--name whole", 2, {"runs/whole", "--resume auto"});
  test::write_lexicon_tokens(at("train.bin"), 25);
  refused(train + "--name whole --resume auto", 2, {"data"});
}

TEST_F(LlamaPrograms, FilesInTheRunFolderSaveAndStop) {
  const std::string train = lora_ + "--attn full --max-steps 3000 --save-every 0 --name a ";
  const Answer cut = run(train +
                         "& p=$!; while [ ! -e runs/a/metrics.jsonl ]; do sleep 0.005; done; "
                         "touch runs/a/SAVE; while [ ! -e runs/a/last/COMPLETE ]; do sleep 0.005; "
                         "done; touch runs/a/STOP; wait $p");
  EXPECT_EQ(cut.code, 75) << cut.log;
  EXPECT_NE(cut.log.find("stopped by RUN/STOP"), std::string::npos) << cut.log;
  EXPECT_FALSE(fs::exists(at("runs/a/SAVE")) || fs::exists(at("runs/a/STOP")));
}

TEST_F(LlamaPrograms, AnExtendedContextTravelsWithTheAdapter) {
  test::write_lexicon_tokens(at("long.bin"), 8, 256);
  const std::string train =
      "train_llama pretrain -m base --data long.bin --ctx-size 200 --output runs --lora-rank 4 "
      "--grad-accum-steps 1 --max-steps 2 --threads 1 --json ";
  refused(train + "--rope-scaling none --name a", 2, {"200", "64", "rope unscaled"});
  EXPECT_FALSE(fs::exists(at("runs")));
  const Answer trained = run(train + "--name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  // The factor is a whole number: 4 for 200 tokens of 64.
  EXPECT_NE(trained.log.find("rope linear, factor 4, 64 -> 256 positions"), std::string::npos)
      << trained.log;
  const std::string ppl = "eval_llama ppl -m base --data long.bin --ctx-size 200 --json ";
  refused(ppl, 2, {"200", "64", "--rope-scaling linear"});
  const auto with = result(ppl + "--adapter runs/a");
  EXPECT_NE(with["nll"], result(ppl + "--rope-scaling linear")["nll"]);
  EXPECT_EQ(with["nll"],
            result(ppl + "--adapter runs/a --rope-scaling linear --rope-factor 4")["nll"]);
  refused(ppl + "--adapter runs/a --rope-scaling none", 2, {"200", "64"});
}

TEST_F(LlamaPrograms, AStepBeyondTheMachinesMemoryExitsWith6) {
  const std::string rows = "--max-steps 1 -b 100000000 --grad-accum-steps 1 --name a ";
  const Answer answer = run(common_ + "-m base --lora-rank 4 " + rows);
  EXPECT_EQ(answer.code, 6) << answer.log;
  EXPECT_NE(answer.log.find("GiB, this machine has"), std::string::npos) << answer.log;
  EXPECT_FALSE(fs::exists(at("runs/a")));
  EXPECT_EQ(run(common_ + "-m base --lora-rank 4 --dry-run " + rows).code, 0);
}

// A text as data is what its token file is, on the first call and from the cache.
TEST_F(LlamaPrograms, TextsAreTokenizedAndKept) {
  std::string text;
  for (int i = 0; i < 400; ++i) text += i % 3 == 0 ? "ba=KO " : "ne=TI ";
  fs::create_directories(at("texts"));
  write_whole_file(at("texts/a.md"), "\xEF\xBB\xBF" + text);
  write_whole_file(at("texts/b.jsonl"), "{\"text\": \"ba=KO ne=TI\"}\n");
  write_whole_file(at("texts/c.heic"), "x");
  const std::string train =
      "train_llama pretrain -m base --ctx-size 32 --lora-rank 4 -b 2 --grad-accum-steps 1 "
      "--max-steps 2 --threads 1 --output runs --no-shuffle --json ";
  ASSERT_EQ(run("data_llama tokenize --model base --data texts --output texts.bin").code, 0);
  const Answer ids = run(train + "--data texts.bin --name ids");
  ASSERT_EQ(ids.code, 0) << ids.log;
  for (const char* name : {"first", "again"}) {
    const Answer answer = run(train + "--data texts --name " + std::string(name));
    ASSERT_EQ(answer.code, 0) << answer.log;
    EXPECT_EQ(metrics("runs/" + std::string(name)), metrics("runs/ids"));
    EXPECT_NE(answer.log.find("runs/token-cache/"), std::string::npos) << answer.log;
    EXPECT_NE(answer.log.find("1 .heic"), std::string::npos) << answer.log;
    EXPECT_EQ(answer.log.find("tokenized before") != std::string::npos,
              std::string(name) == "again");
  }
  const auto estimate = result(train + "--data texts --dry-run");
  EXPECT_TRUE(
      estimate["texts"][0]["tokens_in"].get<std::string>().starts_with("runs/token-cache/"));
  // Another text, another entry; both stay.
  write_whole_file(at("texts/b.jsonl"), "{\"text\": \"ba=KO ne=TI ba=KO\"}\n");
  ASSERT_EQ(run(train + "--data texts --name other").code, 0);
  size_t kept = 0;
  for (const auto& entry : fs::directory_iterator(at("runs/token-cache")))
    kept += entry.path().extension() == ".bin";
  EXPECT_EQ(kept, 2u);
  write_whole_file(at("random.txt"), std::string("\x81\x02\x03\x04", 4) + text);
  refused(train + "--data random.txt", 3, {"random.txt", "byte 0", "UTF-8", "--encoding latin1"});
  write_whole_file(at("ids.u16"), std::string(400, '\1'));
  refused(train + "--data ids.u16", 3, {"ids.u16", "no header", "--token-dtype u16"});
  write_whole_file(at("ids.data"), std::string(400, '\0'));
  refused(train + "--data ids.data", 3, {"ids.data", "NUL", "--token-dtype u16"});
  EXPECT_EQ(run(train + "--data ids.data --token-dtype u16 --name plain").code, 0);
  fs::remove(at("base/tokenizer.json"));
  refused(train + "--data texts", 3, {"base", "tokenizer.json"});
}

TEST_F(LlamaPrograms, WhatDoesNotFitExitsWith2) {
  refused(lora_ + "--attn sf --group-size 65", 2, {"--group-size 65", "64"});
  refused(lora_ + "--attn sf --group-size 15", 2, {"sf", "15", "odd"});
  refused(lora_ + "--attn sf --group-size 16 --sinks 17", 2, {"17 sinks", "16"});
  refused(lora_ + "--attn s2-leaky --group-size 48", 2, {"s2-leaky", "48", "64"});
  refused(lora_ + "--attn fixed --sinks 4", 2, {"fixed", "4"});
  refused(lora_ + "--lora-rnak 3", 2, {"--lora-rnak", "did you mean --lora-rank?"});
  refused(lora_ + "--lora-rank -1", 2, {"--lora-rank", "-1"});
  refused(lora_ + "--lora-targets q_porj", 2, {"q_porj"});
  refused(lora_ + "--ctx-size -5", 2, {"--ctx-size", "-5"});
  refused(lora_ + "--ctx-size 64k", 2, {"64k"});
  refused(lora_ + "--attn sff", 2, {"--attn", "sff", "sf"});
  refused(lora_ + "--opt-betas 0.9", 2, {"--opt-betas"});
  refused(lora_ + "--name a/b", 2, {"--name", "a/b"});
  refused(lora_ + "--resume auto", 2, {"--resume auto", "--name"});
  refused(lora_ + "--save-on HUP", 2, {"HUP"});
  refused(common_ + "-m base --model-config base/config.json", 2, {"--model", "--model-config"});
  refused(common_ + "-m base --full --dtype bf16", 2, {"bf16", "--full"});
  refused("train_llama pretrain -m base", 2, {"--data"});
  refused("train_llama pretrian", 2, {"pretrian", "did you mean pretrain?"});
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::vector<std::string>>>{
           {"[optim]\nlearning_rat = 1\n", {"x.toml:2", "learning_rat"}},
           {"[optim]\nl = 1\n\n[optimm]\nlr = 1\n", {"x.toml"}},
           {"[optim]\nlr = \"fast\"\n", {"x.toml:2", "lr"}},
           {"[train]\nmax_steps = -4\n", {"x.toml:2", "max_steps", "-4"}},
           {"[train]\nmax_step = 4\n", {"x.toml:2", "did you mean", "max_steps"}},
           {"[train\n", {"x.toml"}}}) {
    write_whole_file(at("x.toml"), text);
    refused(lora_ + "-c x.toml", 2, words);
  }
  refused(lora_ + "-c none.toml", 2, {"none.toml"});
  EXPECT_FALSE(fs::exists(at("runs")));
}

}  // namespace
}  // namespace mullion
