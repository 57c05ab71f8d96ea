// The TiC programs as a user calls them, on a few small PNG files: what a run leaves, and that it
// goes on to the same bits.
#include <cmath>
#include <cstddef>
#include <fstream>

#include "apps/tic/model_folder.h"
#include "models/tic/model.h"
#include "tensor/io/safetensors.h"
#include "tests/apps/tic_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;
using test::TicPrograms;

TEST_F(TicPrograms, TrainEvaluatePredict) {
  const Answer trained = run(train_ + "--max-steps 4 --model-ema --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_EQ(trained.json()["steps"], 4);
  EXPECT_EQ(trained.json()["run"], "runs/a");
  EXPECT_TRUE(trained.json()["final_loss"].is_number());
  for (const char* name :
       {"config.toml", "command.txt", "env.json", "train.log", "metrics.jsonl", "summary.csv",
        "last/model.safetensors", "last/model_ema.safetensors", "last/optimizer.safetensors",
        "last/trainer_state.json", "last/config.json", "last/COMPLETE", "best/model.safetensors"})
    EXPECT_TRUE(fs::exists(at("runs/a") / name)) << name;
  const auto config = nlohmann::json::parse(contents(at("runs/a/last/config.json")));
  EXPECT_EQ(config["architecture"], "tic-n");
  EXPECT_EQ(config["num_classes"], 10);
  EXPECT_EQ(config["label_names"].size(), 10u);
  EXPECT_EQ(config["pretrained_cfg"]["input_size"], (nlohmann::json{3, 32, 32}));
  for (const char* key : {"preset", "patch", "kernel", "dilation", "variant", "border", "shift",
                          "shift_size", "pool", "in_chans"})
    EXPECT_TRUE(config["model_args"].contains(key)) << key;
  EXPECT_EQ(contents(at("runs/a/summary.csv")).rfind("epoch,train_loss,eval_loss,eval_top1,", 0),
            0u);

  const Answer scored =
      run("eval_tic --data-dir tree --checkpoint runs/a --img-size 32,24x41 --use-ema "
          "--crop-pct 0.9 --results-file r.csv --json");
  ASSERT_EQ(scored.code, 0) << scored.log;
  const auto results = scored.json()["results"];
  EXPECT_EQ(results[0]["img_size"], 32);
  EXPECT_EQ(results[1]["img_size"], "24x41");
  for (const auto& result : results) EXPECT_EQ(result["count"], 40);
  EXPECT_NE(contents(at("r.csv")).find("tic-n,24x41,"), std::string::npos);
  EXPECT_NE(contents(at("r.csv")).find(",0.9,bicubic\n"), std::string::npos);

  const Answer told =
      run("tool_tic predict --checkpoint runs/a --img-size 33 --crop-pct 1 --probabilities --json "
          "tree/val/0-plus/00000.png tree/val/2-ring/00001.png");
  ASSERT_EQ(told.code, 0) << told.log;
  const auto images = told.json()["images"];
  ASSERT_EQ(images.size(), 2u);
  EXPECT_EQ(images[1]["file"], "tree/val/2-ring/00001.png");
  EXPECT_EQ(images[1]["top5"].size(), 5u);
  double sum = 0;
  for (const double p : images[1]["probabilities"]) sum += p;
  EXPECT_NEAR(sum, 1, 1e-5);
  EXPECT_EQ(run("tool_tic info --checkpoint runs/a --img-size 32 --json").json()["params"],
            tic_parameters([] {
              TicConfig c = tic_preset("tic-n");
              c.kernel_h = c.kernel_w = 3;
              return c;
            }()));
}

TEST_F(TicPrograms, AStoppedOrKilledRunGoesOnToTheSameBits) {
  const std::string train = train_ +
                            "--max-steps 9 --model-ema --mixup 0.8 --cutmix 1 "
                            "--reprob 0.25 --color-jitter 0.4 --save-every 2 ";
  ASSERT_EQ(run(train + "--name whole -j 1").code, 0);
  int stopped = 0;
  for (const auto& [signal, code] : {std::pair{"TERM", 75}, {"KILL", 137}}) {
    const std::string name = std::string("cut-") + signal;
    const Answer cut = stop(train + "--name " + name + " -j 3",
                            "runs/" + name + "/checkpoint-000002/COMPLETE", signal);
    ASSERT_TRUE(cut.code == code || cut.code == 0) << cut.log;  // 0: it was already at its end
    stopped += cut.code == code;
    EXPECT_EQ(run(train + "--name " + name + " -j 0 --resume auto").code, 0);
    same_runs("runs/whole", "runs/" + name,
              {"last/model.safetensors", "last/model_ema.safetensors", "last/optimizer.safetensors",
               "last/trainer_state.json", "summary.csv"});
  }
  EXPECT_GT(stopped, 0);
  // A finished run is complete; another configuration does not go on from it.
  EXPECT_EQ(run(train + "--name whole --resume auto").code, 0);
  refused(train + "--name whole --resume auto --lr 0.5", 2, {"optim.lr", "0.5"});
  refused(train + "--name whole", 2, {"runs/whole", "--resume auto"});
}

// --resume RUN needs nothing beside it, and says what is given beside it and differs.
TEST_F(TicPrograms, ARunIsResumedByItsFolderAlone) {
  const std::string train = train_ + "--max-steps 6 --smoothing 0.2 --save-every 2 ";
  ASSERT_EQ(run(train + "--name whole").code, 0);
  ASSERT_EQ(run(train + "--name cut").code, 0);
  for (const char* later : {"checkpoint-000004", "checkpoint-000006"})
    fs::remove_all(at("runs/cut") / later);
  const Answer resumed = run("train_tic --resume runs/cut --threads 1 --keep 5 --json");
  ASSERT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_EQ(resumed.json()["run"], "runs/cut");
  EXPECT_NE(resumed.log.find("settings   of runs/cut/config.toml\n"), std::string::npos)
      << resumed.log;
  EXPECT_NE(resumed.log.find("--keep 5, which was 3\n"), std::string::npos) << resumed.log;
  EXPECT_EQ(resumed.log.find("--max-steps"), std::string::npos) << resumed.log;
  same_runs("runs/whole", "runs/cut", {"last/model.safetensors", "last/optimizer.safetensors"});
  // Also from what the resumed run has recorded; and a setting that makes another run is refused.
  EXPECT_EQ(run("train_tic --resume runs/cut/last").code, 0);
  refused("train_tic --resume runs/cut --smoothing 0.3", 2, {"augment.smoothing", "0.2", "0.3"});
  refused("train_tic --resume runs", 2, {"runs", "config.toml"});
}

// A step of three batches does not end with the images' pass of five.
TEST_F(TicPrograms, ARunGoesOnWithinAStepThatCrossesTheEndOfAPass) {
  const std::string train = train_ + "--grad-accum-steps 3 --max-steps 4 --save-every 1 ";
  ASSERT_EQ(run(train + "--name whole").code, 0);
  const Answer cut = stop(train + "--name cut", "runs/cut/checkpoint-000002/COMPLETE", "KILL");
  ASSERT_TRUE(cut.code == 137 || cut.code == 0) << cut.log;
  for (const char* later : {"checkpoint-000003", "checkpoint-000004"})
    fs::remove_all(at("runs/cut") / later);
  ASSERT_EQ(run(train + "--name cut --resume auto").code, 0);
  same_runs("runs/whole", "runs/cut", {"last/model.safetensors", "last/optimizer.safetensors"});
}

// 40 images in batches of 8: 5 steps an epoch.
TEST_F(TicPrograms, TheWarmUpFitsTheTrainingOrIsToldOf) {
  const std::string train =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 8 --img-size 32 --output runs "
      "--threads 1 --dry-run ";
  const auto log = [&](const std::string& flags) {
    const Answer answer = run(train + flags);
    EXPECT_EQ(answer.code, 0) << answer.log;
    return answer.log;
  };
  const auto expect_in = [](const std::string& text, const std::string& part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  expect_in(log("-b 4"),
            "warning: the highest rate, 3.90625e-06, is below the default of --min-lr: the last "
            "one is 3.90625e-08");
  expect_in(log("--lr 1e-3 --epochs 10"), "50 in all, the first 10 of them warm-up");
  expect_in(log("--lr 1e-3 --epochs 300"), "1500 in all, the first 100 of them warm-up");
  expect_in(log("--lr 1e-3 --max-steps 100"), "100 in all, the first 20 of them warm-up");
  EXPECT_EQ(log("--lr 1e-3 --epochs 10 --warmup-epochs 9").find("warning"), std::string::npos);
  expect_in(log("--lr 1e-3 --warmup-lr 0 --epochs 10 --warmup-epochs 20"),
            "warning: the warm-up takes 100 steps (20 epochs), the training 50 steps (10 epochs): "
            "the rate ends at 0.00049 and never reaches 0.001");
  expect_in(log("--lr 0 --min-lr 0 --warmup-lr 0"), "warning: the learning rate is 0");
  expect_in(log("--lr 1e-3 --lr-base 1e-4"), "warning: --lr-base 1e-04: has no effect with --lr");
  expect_in(log("--lr 1e-3 --sched constant_with_warmup --min-lr 1e-4"),
            "warning: --min-lr 1e-04: has no effect");
  expect_in(log("--lr 1e-3 --mixup-switch-prob 0.1 --mixup 0.5"),
            "warning: --mixup-switch-prob 0.1: has no effect");
  expect_in(log("--lr 1e-3 --opt sgd --opt-betas 0.8,0.9"), "warning: --opt-betas ");
  refused(train + "--lr 1e-6", 2, {"--min-lr 5e-06", "highest learning rate, 1e-06"});
  refused(train + "--lr 1e-3 --warmup-lr 2e-3", 2, {"--warmup-lr 0.002", "0.001"});
  refused(train + "--lr 1e-3 --warmup-epochs -1", 2, {"--warmup-epochs", "-1"});
  refused(train + "--lr 1e-3 --grad-accum-steps 6", 2, {"48 images", "40"});
  refused(train + "--lr 1e-3 --smoothing 1", 2, {"--smoothing"});
  refused(train + "--lr 1e-3 --mixup-prob 1.5", 2, {"--mixup-prob"});
  refused(train + "--lr nan", 2, {"--lr"});
}

// 40 images in batches of 16: two batches a pass, eight images in none.
TEST_F(TicPrograms, ThePlanSaysWhatATrainingTakes) {
  const Answer plan = run(train_ + "-b 16 --max-steps 7 --dry-run");
  ASSERT_EQ(plan.code, 0) << plan.log;
  EXPECT_NE(plan.log.find("plan       7 steps, 3.5 passes over 40 images; 8 of each pass, other "
                          "ones every time, fill no batch and are left out\n"),
            std::string::npos)
      << plan.log;
  const auto facts = plan.json();
  EXPECT_EQ(facts["steps"], 7);
  EXPECT_EQ(facts["passes"], 3.5);
  EXPECT_EQ(facts["dropped"], 8);
  EXPECT_GT(facts["hours"], 0);
  // Of three images more where a step is short, up to the batch.
  const std::string from = facts["hours_from"];
  EXPECT_TRUE(from == "measured on 3 images" || from == "measured on 6 images" ||
              from == "measured on 12 images")
      << from;
  // Weights and two moments in f32, and nothing is said of images left out where none is.
  EXPECT_NEAR(facts["checkpoint_gib"].get<double>() * 0x1p30, 12.0 * facts["params"].get<double>(),
              1);
  EXPECT_GT(facts["memory_gib"].get<double>() * 0x1p30, 16.0 * facts["params"].get<double>());
  EXPECT_EQ(plan.log.find("by heart"), std::string::npos) << plan.log;
  const Answer many = run(train_ + "--max-steps 8000 --dry-run");
  EXPECT_EQ(many.log.find("left out"), std::string::npos) << many.log;
  EXPECT_NE(many.log.find("warning: 8000 steps are 1600 passes over 40 images"), std::string::npos)
      << many.log;
}

TEST_F(TicPrograms, TheEndSaysWhatWasSavedAndWhatToDoNext) {
  const Answer trained = run(train_ + "--max-steps 4 --name 'a b'");
  ASSERT_EQ(trained.code, 0) << trained.log;
  const size_t saved = trained.log.find("saved      runs/a b/last (step 4, ");
  ASSERT_NE(saved, std::string::npos) << trained.log;
  const std::string end = trained.log.substr(saved);
  EXPECT_NE(end.find("runs/a b/best (step 4, top1 "), std::string::npos) << end;
  for (const char* command : {"eval_tic --data-dir tree --checkpoint 'runs/a b/best'\n",
                              "tool_tic predict --checkpoint 'runs/a b/best' tree/val\n"}) {
    ASSERT_NE(end.find(command), std::string::npos) << end;
    const Answer next = run(std::string(command).substr(0, std::string(command).size() - 1));
    EXPECT_EQ(next.code, 0) << command << next.log;
  }
  EXPECT_NE(end.find("report 'runs/a b' --output 'runs/a b/report.html'\n"), std::string::npos);
  EXPECT_NE(trained.log.find("epoch 0.8 of 0.8, step 4: train loss "), std::string::npos)
      << trained.log;
  const Answer again = run("train_tic --resume 'runs/a b'");
  EXPECT_NE(again.log.find("runs/a b: complete already, 4 steps\n"), std::string::npos)
      << again.log;
  EXPECT_NE(again.log.find(end.substr(0, end.find('\n'))), std::string::npos) << again.log;
  const Answer stopped = run(train_ + "--max-steps 40 --max-minutes 0.00001 --name c");
  EXPECT_EQ(stopped.code, 75);
  EXPECT_NE(stopped.log.find("next       train_tic --resume runs/c\n"), std::string::npos)
      << stopped.log;
}

// Before anything is computed that no machine has the memory for.
TEST_F(TicPrograms, AStepBeyondTheMemoryIsRefused) {
  const std::string train =
      "train_tic --data-dir cue --cue-count 40000000 --model tic-n --img-size 32 -b 40000000 "
      "--threads 1 --device cpu ";
  for (const std::string when : {"--dry-run", "--name a"})
    refused(train + when, 6, {"memory: a step needs about", "this machine has"});
  EXPECT_NE(run(train + "--dry-run").log.find("plan  "), std::string::npos);
}

// The estimate would measure three images; a step of one needs the memory of one.
TEST_F(TicPrograms, AStepOfOneImageNeedsNoMemoryForMore) {
  const std::string plan =
      "train_tic --data-dir cue --cue-count 40000000 --model tic-n --threads 1 --device cpu "
      "--dry-run --json --img-size ";
  const auto gib = [&](const std::string& step) {
    return run(plan + step).json()["memory_gib"].get<double>();
  };
  const double an_image = gib("128 -b 2") - gib("128 -b 1");
  const std::string refused = run(plan + "32 -b 40000000").log, has = "this machine has ";
  ASSERT_NE(refused.find(has), std::string::npos) << refused;
  const double there = std::stod(refused.substr(refused.find(has) + has.size()));
  const auto side = static_cast<int64_t>(4 * std::sqrt(0.55 * there / an_image)) * 32;
  if (side > kMostImageSide)
    GTEST_SKIP() << "this machine has the memory for three of the largest images";
  const Answer one = run(plan + concat(side, " -b 1"));
  EXPECT_EQ(one.code, 0) << one.log;
  EXPECT_GT(one.json()["memory_gib"].get<double>(), there / 3) << one.log;
  EXPECT_NE(one.log.find("not timed"), std::string::npos) << one.log;
}

TEST_F(TicPrograms, AccuracyAtChanceIsToldOfOnce) {
  const Answer trained = run(train_ + "--lr 0 --warmup-lr 0 --min-lr 0 --max-steps 30 --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  const std::string hint = "top1 has been at chance in 5 evaluations";
  const size_t at = trained.log.find(hint);
  ASSERT_NE(at, std::string::npos) << trained.log;
  EXPECT_EQ(trained.log.find("by guessing", at + hint.size() + 30), std::string::npos);
}

// A head of three classes on the trunk of ten: at rate 0 the trunk stays what it was, to the bit.
TEST_F(TicPrograms, FineTuningWithOtherClassesKeepsTheTrunk) {
  ASSERT_EQ(run(train_ + "--max-steps 4 --name a").code, 0);
  for (const char* split : {"train", "val"})
    for (const char* name : {"0-plus", "2-ring", "9-fork"}) {
      fs::create_directories(at("few") / split);
      fs::copy(at("tree") / split / name, at("few") / split / name, fs::copy_options::recursive);
    }
  const std::string tune =
      "train_tic --data-dir few --initial-checkpoint runs/a -b 4 --img-size 32 "
      "--output runs --threads 1 --warmup-epochs 0 --max-steps 2 --json ";
  const Answer tuned = run(tune + "--lr 0 --warmup-lr 0 --min-lr 0 --name b");
  ASSERT_EQ(tuned.code, 0) << tuned.log;
  EXPECT_NE(tuned.log.find("starts from the weights of runs/a/best (tic-n, 10 classes); the "
                           "optimizer starts anew\n"),
            std::string::npos)
      << tuned.log;
  EXPECT_NE(tuned.log.find("are not those of the data, 3: 0-plus, 2-ring, 9-fork; the head is new"),
            std::string::npos)
      << tuned.log;
  EXPECT_EQ(tuned.log.find("img_size"), std::string::npos) << tuned.log;
  const Answer larger = run(tune + "--img-size 40 --dry-run");
  EXPECT_NE(larger.log.find("runs/a/best: trained otherwise: img_size 40 instead of 32\n"),
            std::string::npos)
      << larger.log;
  const auto before = open_safetensors(at("runs/a/best/model.safetensors")),
             after = open_safetensors(at("runs/b/last/model.safetensors"));
  int heads = 0;
  for (const TensorEntry& entry : before->entries()) {
    if (entry.name.starts_with("head.")) {
      ++heads;
      EXPECT_EQ(after->at(entry.name).shape[0], 3) << entry.name;
      continue;
    }
    std::vector<std::byte> a(entry.bytes), b(entry.bytes);
    before->read_raw(entry.name, a);
    after->read_raw(entry.name, b);
    EXPECT_TRUE(a == b) << entry.name;
  }
  EXPECT_EQ(heads, 2);
  // The window of three, which no flag here gave; the same run by its record alone.
  EXPECT_NE(contents(at("runs/b/config.toml")).find("kernel = 3 "), std::string::npos);
  EXPECT_EQ(run("train_tic --resume runs/b").code, 0);
  EXPECT_EQ(run("train_tic -c runs/b/config.toml --name c").code, 0);
  refused(tune + "--model tic-t --name d", 2, {"--model tic-t", "tic-n"});
  refused(tune + "--patch-size 4 --name d", 3, {"runs/a/best/model.safetensors", "stem"});
}

// Written by somebody who lists the classes otherwise: each keeps its row, so the same weights name
// the same classes.
TEST_F(TicPrograms, FineTuningKeepsTheHeadWhereTheOrderOfClassesIsAnother) {
  ASSERT_EQ(run(train_ + "--max-steps 4 --name a").code, 0);
  const fs::path config = at("runs/a/last/config.json"),
                 weights = at("runs/a/last/model.safetensors");
  nlohmann::json description = nlohmann::json::parse(contents(config));
  nlohmann::json& names = description["label_names"];
  std::rotate(names.begin(), names.begin() + 3, names.end());
  fs::copy(at("runs/a/last"), at("turned"), fs::copy_options::recursive);
  std::ofstream(at("turned/config.json")) << description.dump();
  fs::remove(at("turned/COMPLETE"));
  const Answer tuned =
      run("train_tic --data-dir tree --initial-checkpoint turned -b 4 --img-size 32 --output runs "
          "--threads 1 --warmup-epochs 0 --max-steps 1 --lr 0 --warmup-lr 0 --min-lr 0 --name b");
  ASSERT_EQ(tuned.code, 0) << tuned.log;
  EXPECT_NE(tuned.log.find("another order"), std::string::npos) << tuned.log;
  EXPECT_NE(tuned.log.find("the head is put into their order"), std::string::npos) << tuned.log;
  const auto before = open_safetensors(weights),
             after = open_safetensors(at("runs/b/last/model.safetensors"));
  for (const char* name : {"head.weight", "head.bias"}) {
    const size_t bytes = static_cast<size_t>(before->at(name).bytes), row = bytes / 10;
    std::vector<std::byte> was(bytes), is(bytes);
    before->read_raw(name, was);
    after->read_raw(name, is);
    std::rotate(was.begin(), was.end() - static_cast<std::ptrdiff_t>(3 * row), was.end());
    EXPECT_TRUE(was == is) << name;
  }
}

TEST(TicParameters, AreThoseOfTheModel) {
  for (const char* preset : {"tic-n", "tic-t", "tic-rel-t"}) {
    for (const auto pool : {TicConfig::Pool::inter, TicConfig::Pool::off, TicConfig::Pool::kv}) {
      TicConfig c = tic_preset(preset);
      c.dim = 16;
      c.heads.assign(c.depths.size(), 4);
      c.pool = pool;
      c.mlp_dwconv = pool == TicConfig::Pool::off;
      Tic model(c);
      int64_t count = 0;
      for (const NamedParameter& p : named_parameters(model)) count += p.value.numel();
      EXPECT_EQ(tic_parameters(c), static_cast<double>(count)) << preset;
    }
  }
}

}  // namespace
}  // namespace mullion
