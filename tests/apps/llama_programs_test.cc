// train_llama as a user calls it, on a model of a few thousand parameters: what a run leaves and
// says, and that a stopped run goes on to the same bits.
#include <cmath>

#include "tensor/io/file.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/llama_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using test::Answer;
using test::contents;
using test::LlamaPrograms;

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

TEST_F(LlamaPrograms, TheNextCommandReadsItsDataAsTheTrainingDid) {
  std::string raw;
  for (int i = 0; i < 700; ++i) raw += {static_cast<char>(i % 40), '\0'};
  write_whole_file(at("raw"), raw);
  const std::string train =
      "train_llama pretrain -m base --ctx-size 64 --attn full --grad-accum-steps 1 --max-steps 1 "
      "--threads 1 --token-dtype u16 ";
  const Answer one = run(train + "--data raw --name one");
  ASSERT_EQ(one.code, 0) << one.log;
  const std::string judge =
      "eval_llama ppl --model runs/one/last --data raw --ctx-size 64 --token-dtype u16";
  ASSERT_NE(one.log.find(judge + "\n"), std::string::npos) << one.log;
  EXPECT_EQ(run(judge).code, 0);
  // Of several places it would judge the first alone.
  const Answer two = run(train + "--data raw,raw --name two");
  ASSERT_EQ(two.code, 0) << two.log;
  EXPECT_EQ(two.log.find("eval_llama ppl"), std::string::npos) << two.log;
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
  refused(common_ + "-m base --lora-rank 4 " + rows, 6, {"GiB, this machine has"});
  EXPECT_FALSE(fs::exists(at("runs/a")));
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
