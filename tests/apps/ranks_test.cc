// Trainings of several ranks as a user starts them: the losses of one process for any number of
// ranks, the same bits in each run, stops and faults that end all of them.
#include <cmath>
#include <fstream>
#include <sstream>

#include "tests/apps/rank_programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::contents;

class RanksTest : public test::RankPrograms {
 protected:
  RanksTest() : RankPrograms({"train_llama", "train_tic", "eval_tic", "eval_llama"}) {}
  const std::string llama_ =
      "train_llama pretrain --data train.bin --val-data val.bin --eval-max-rows 5 --ctx-size 64 "
      "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 --json -m base --lora-rank 4 -b 1 "
      "--grad-accum-steps 12 --lora-dropout 0.1 --save-every 5 ";
  const std::string tic_ =
      "train_tic --data-dir cue --model tic-n --img-size 32 --output runs --threads 1 --json -b 1 "
      "--grad-accum-steps 12 --cue-count 480 --warmup-epochs 0 --workers 1 "
      "--drop-path 0.1 --model-ema ";
};

TEST_F(RanksTest, LlamaHasTheLossesOfOneProcess) {
  started(1, llama_ + "--max-steps 10 --name one");
  const auto expected = losses("runs/one");
  ASSERT_EQ(expected.size(), 10U);
  for (const int n : {2, 3, 4}) {
    const std::string name = std::to_string(n);
    const auto ranks = started(n, llama_ + "--max-steps 10 --name " + name);
    expect_near(expected, losses("runs/" + name), 1e-6);
    expect_near(losses("runs/one", "val"), losses("runs/" + name, "val"), 1e-6);
    EXPECT_NE(ranks.logs[0].find("rank 1 of " + name + " from RANK, node "), std::string::npos)
        << ranks.logs[0];
    EXPECT_EQ(ranks.logs[1], "");
  }
  // The same bits in each run, also where gradients are added up after the backward pass.
  started(2, llama_ + "--max-steps 10 --no-overlap --name again");
  EXPECT_EQ(losses("runs/again"), losses("runs/2"));
  const auto weights = [&](const std::string& run) {
    return contents(at("runs/" + run + "/last/adapter/adapter_model.safetensors"));
  };
  EXPECT_EQ(weights("again"), weights("2"));
}

// Every parameter is trained, in buckets that leave while the backward pass goes on, of recomputed
// layers too.
TEST_F(RanksTest, OverlapChangesNoBitOfATrainingOfAllParameters) {
  const std::string scratch =
      "train_llama pretrain --model-config base/config.json --data train.bin --ctx-size 64 "
      "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 -b 1 --grad-accum-steps 3 "
      "--grad-checkpointing --max-steps 4 ";
  started(2, scratch + "--name with");
  started(2, scratch + "--name without --no-overlap");
  EXPECT_EQ(losses("runs/with"), losses("runs/without"));
  const std::string weights = "/last/model/model.safetensors";
  ASSERT_TRUE(fs::exists(at("runs/with" + weights)));
  EXPECT_EQ(contents(at("runs/with" + weights)), contents(at("runs/without" + weights)));
  const auto alone = run(scratch + "--name one --no-overlap");
  EXPECT_EQ(alone.code, 0) << alone.log;
  EXPECT_NE(alone.log.find("--no-overlap: has no effect"), std::string::npos) << alone.log;
  expect_near(losses("runs/one"), losses("runs/with"), 1e-6);
}

TEST_F(RanksTest, UnderMpirun) {
  // By the variables alone: a build without MPI says so, another one that there is no mpirun.
  const auto alone =
      run("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 " + llama_ + "--max-steps 2 --name x");
  EXPECT_EQ(alone.code, 2) << alone.log;
  if (alone.log.find("this build has no MPI") != std::string::npos)
    GTEST_SKIP() << "needs a build with OpenMPI (libopenmpi-dev)";
  EXPECT_NE(alone.log.find("is not the one of mpirun"), std::string::npos) << alone.log;
  if (run("command -v mpirun").code != 0) GTEST_SKIP() << "needs mpirun (openmpi-bin)";
  started(1, llama_ + "--max-steps 4 --name one");
  const auto ranks = run("timeout 120 mpirun --allow-run-as-root --oversubscribe -np 2 " + llama_ +
                         "--max-steps 4 --name two");
  EXPECT_EQ(ranks.code, 0) << ranks.log;
  EXPECT_NE(ranks.log.find("rank 1 of 2 from OMPI_COMM_WORLD_RANK"), std::string::npos)
      << ranks.log;
  expect_near(losses("runs/one"), losses("runs/two"), 1e-6);
}

TEST_F(RanksTest, EvaluationsHaveTheFiguresOfOneProcess) {
  const std::string ppl =
      "eval_llama ppl -m base --data val.bin --ctx-size 64 --stride 16 --threads 1 --json";
  const auto one = started(1, ppl), three = started(3, ppl);
  EXPECT_EQ(one.json(), three.json());
  started(1, tic_ + "--max-steps 1 --name tic");
  const std::string tic =
      "eval_tic --data-dir cue --cue-count 50 --checkpoint runs/tic -b 8 --threads 1 --json";
  EXPECT_EQ(started(1, tic).json(), started(2, tic).json());
}

TEST_F(RanksTest, TicHasTheLossesOfOneProcess) {
  started(1, tic_ + "--max-steps 10 --name one");
  const auto expected = losses("runs/one");
  for (const int n : {2, 3}) {
    const std::string name = std::to_string(n);
    started(n, tic_ + "--max-steps 10 --name " + name);
    expect_near(expected, losses("runs/" + name), 1e-5);
  }
}

TEST_F(RanksTest, AResumedRunMayHaveAnotherNumberOfRanks) {
  started(1, llama_ + "--max-steps 10 --name whole");
  started(2, llama_ + "--max-steps 5 --lr-schedule constant_with_warmup --name a");
  started(3, llama_ + "--max-steps 8 --lr-schedule constant_with_warmup --name a --resume auto");
  started(1, llama_ + "--max-steps 10 --lr-schedule constant_with_warmup --name a --resume auto");
  started(1, llama_ + "--max-steps 10 --lr-schedule constant_with_warmup --name b");
  expect_near(losses("runs/b"), losses("runs/a"), 1e-6);
}

TEST_F(RanksTest, WhatDiffersBetweenRanksIsNamed) {
  auto ranks = start(2, llama_ + "--max-steps 2 --name x", "", "--weight-decay 0.$R");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("rank 1 of 2"), std::string::npos) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("in optim.weight_decay: 0.1 and 0"), std::string::npos)
      << ranks.logs[0];
  // Twelve passes are not enough for thirteen ranks.
  ranks = start(2, llama_ + "--max-steps 2 --name x --grad-accum-steps 1");
  EXPECT_EQ(ranks.codes[0], 2) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("2 ranks for 1 pass a step"), std::string::npos) << ranks.logs[0];
}

// --shard optimizer: the losses and files of a run without, and resumed with any number of ranks.
TEST_F(RanksTest, AShardedOptimizerChangesNothing) {
  started(2, tic_ + "--max-steps 4 --name plain --save-every 2");
  started(2, tic_ + "--max-steps 4 --name shard --save-every 2 --shard optimizer");
  EXPECT_EQ(losses("runs/plain"), losses("runs/shard"));
  for (const char* file : {"model.safetensors", "model_ema.safetensors"})
    EXPECT_EQ(contents(at(std::string("runs/plain/last/") + file)),
              contents(at(std::string("runs/shard/last/") + file)));
  EXPECT_TRUE(fs::exists(at("runs/shard/last/optimizer.rank-001.safetensors")));
  EXPECT_FALSE(fs::exists(at("runs/shard/last/optimizer.safetensors")));
}

// --shard full: the losses of a run without, for pairs beside frozen weights and for all that is
// trained, with evaluations of batches that do not divide.
TEST_F(RanksTest, SpreadWeightsChangeNoLoss) {
  const std::string lora = llama_ + "--grad-checkpointing --max-steps 6 --eval-every 2 ";
  started(1, lora + "--name lora");
  for (const int n : {2, 3, 4}) {
    const auto ranks = started(n, lora + "--shard full --name lora" + std::to_string(n));
    expect_near(losses("runs/lora"), losses("runs/lora" + std::to_string(n)), 1e-6);
    expect_near(losses("runs/lora", "val"), losses("runs/lora" + std::to_string(n), "val"), 1e-6);
    EXPECT_NE(ranks.logs[0].find("moments take at most"), std::string::npos) << ranks.logs[0];
  }
  // The adapter is whole, and of the same weights.
  const auto ppl = [&](const std::string& run) {
    return started(1, "eval_llama ppl -m base --adapter runs/" + run +
                          "/last/adapter --data val.bin --ctx-size 64 --threads 1 --json")
        .json()["perplexity"]
        .get<double>();
  };
  EXPECT_NEAR(ppl("lora"), ppl("lora3"), 1e-5 * ppl("lora"));
  auto refusal = start(2, llama_ + "--max-steps 2 --name x --shard full");
  EXPECT_EQ(refusal.codes, (std::vector<int>{2, 2}));
  EXPECT_NE(refusal.logs[0].find("--grad-checkpointing"), std::string::npos) << refusal.logs[0];
  refusal = start(2, llama_ +
                         "--max-steps 2 --name x --shard full --grad-checkpointing "
                         "--grad-accum-steps 3");
  EXPECT_EQ(refusal.codes, (std::vector<int>{2, 2}));
  EXPECT_NE(refusal.logs[0].find("3 passes a step (--grad-accum-steps) are no multiple of 2"),
            std::string::npos)
      << refusal.logs[0];
}

// Of instructions, whose targets are of another number in each row, padded and packed; beside rows
// that are divided, too.
TEST_F(RanksTest, SpreadWeightsAreTunedOnInstructions) {
  const std::string golden = std::string(test::source_dir) + "/tests/golden/sft/";
  const std::string tuning =
      "train_llama sft --model '" + golden + "model' --data '" + golden +
      "rows.json' --initial-adapter '" + golden +
      "adapter' --train-also none --ctx-size 256 --attn sf --group-size 64 --max-steps 4 --output "
      "runs --batch-size 2 --grad-accum-steps 4 --lr 5e-3 --warmup-steps 0 --threads 1 "
      "--grad-checkpointing ";
  for (const std::string pack : {"", "--pack "}) {
    const std::string name = pack.empty() ? "padded" : "packed";
    started(1, tuning + pack + "--name " + name);
    started(2, tuning + pack + "--shard full --name " + name + "-2");
    started(4, tuning + pack + "--shard full --context-parallel 2 --name " + name + "-4");
    expect_near(losses("runs/" + name), losses("runs/" + name + "-2"), 2e-6);
    expect_near(losses("runs/" + name), losses("runs/" + name + "-4"), 2e-6);
  }
}

// A run of all parameters goes on from spread weights to a sharded optimizer, to one process, and
// to spread weights of another number of ranks.
TEST_F(RanksTest, ARunMayChangeWhatIsSharded) {
  const std::string scratch =
      "train_llama pretrain --model-config base/config.json --data train.bin --ctx-size 64 "
      "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 -b 1 --grad-accum-steps 6 "
      "--resume auto ";
  const std::string full = "--name a --shard full --grad-checkpointing ";
  started(1, scratch + "--max-steps 8 --name b");
  started(2, scratch + "--max-steps 2 " + full);
  EXPECT_TRUE(fs::exists(at("runs/a/last/optimizer.rank-001.safetensors")));
  started(2, scratch + "--max-steps 4 --name a --shard optimizer --grad-checkpointing");
  started(3, scratch + "--max-steps 5 " + full);
  started(2, scratch + "--max-steps 6 --no-overlap " + full);
  started(1, scratch + "--max-steps 7 --name a");
  // Blocks are computed again where they were not before: told, for the results are the same.
  const auto ranks = started(2, scratch + "--max-steps 8 " + full);
  EXPECT_NE(ranks.logs[0].find("but        model.grad_checkpointing is true, was false"),
            std::string::npos)
      << ranks.logs[0];
  expect_near(losses("runs/b"), losses("runs/a"), 1e-5);
}

// Waits until the run has made some steps.
const char* const kUnderWay =
    "for i in $(seq 200); do [ -e runs/x/last ] && break; sleep 0.1; done; ";

TEST_F(RanksTest, ASignalToOneRankStopsAllAtTheSameStep) {
  const auto ranks =
      start(2, llama_ + "--max-steps 100000 --name x", std::string(kUnderWay) + "kill -TERM $p1");
  EXPECT_EQ(ranks.codes, (std::vector<int>{75, 75})) << ranks.logs[0] << ranks.logs[1];
  EXPECT_NE(ranks.logs[0].find("stopped by SIGTERM to rank 1 of 2"), std::string::npos)
      << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find(", saved"), std::string::npos) << ranks.logs[0];
}

TEST_F(RanksTest, ARankThatDiesOrHangsEndsTheOthers) {
  auto ranks = start(3, llama_ + "--max-steps 100000 --name x",
                     std::string(kUnderWay) + "kill -KILL $(pgrep -P $p1 || echo $p1)");
  EXPECT_EQ(ranks.codes[0], 7) << ranks.logs[0];
  EXPECT_EQ(ranks.codes[2], 7) << ranks.logs[2];
  EXPECT_NE(ranks.logs[0].find("step "), std::string::npos) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("rank 1 of 3 (node "), std::string::npos) << ranks.logs[0];
  ranks = start(2, llama_ + "--max-steps 100000 --name x --resume auto --peer-timeout 2",
                "sleep 3; victim=$(pgrep -P $p1 || echo $p1); kill -STOP $victim; wait $p0; kill "
                "-KILL $victim");
  EXPECT_NE(ranks.logs[0].find("rank 1 of 2 (node "), std::string::npos) << ranks.logs[0];
  EXPECT_NE(ranks.logs[0].find("does not answer: nothing in 2 s"), std::string::npos)
      << ranks.logs[0];
  // What was saved is whole.
  started(1, llama_ + "--max-steps 1 --name x --resume auto");
}

TEST_F(RanksTest, ARankThatDoesNotComeIsNamed) {
  const auto ranks = run("RANK=0 WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 TORCHELASTIC_RUN_ID=alone-" +
                         std::to_string(::getpid()) + " " + llama_ +
                         "--name x --max-steps 2 --rendezvous-timeout 0.5");
  EXPECT_EQ(ranks.code, 7) << ranks.log;
  EXPECT_NE(ranks.log.find("within 0.5 s: 1"), std::string::npos) << ranks.log;
}

}  // namespace
}  // namespace mullion
