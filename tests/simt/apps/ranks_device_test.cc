// Trainings of several ranks on emulated devices, whose sums NCCL takes, as a user starts them: the
// losses of one process, a rank that dies, and what is said where NCCL cannot be used.
#include <cmath>
#include <sstream>

#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

class RanksOnDevices : public test::RankPrograms {
 protected:
  RanksOnDevices() : RankPrograms({"train_llama", "train_tic", "../data_tic"}) {}
  const std::string devices_ = "env MULLION_SIMT_DEVICE=devices=4 ";
  const std::string llama_ =
      "train_llama pretrain --data train.bin --ctx-size 32 --output runs --warmup-steps 0 "
      "--lr 3e-3 --threads 1 --json -m base --lora-rank 4 -b 1 --grad-accum-steps 4 "
      "--save-every 2 --device cuda ";
  const std::string tic_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 --img-size 32 -b 1 "
      "--grad-accum-steps 2 --warmup-epochs 0 --workers 1 --threads 1 --output runs --json "
      "--device cuda ";
  static void says(const Ranks& ranks, const std::string& words) {
    EXPECT_NE(ranks.logs[0].find(words), std::string::npos) << ranks.logs[0];
  }
};

TEST_F(RanksOnDevices, LlamaHasTheLossesOfOneProcess) {
  started(1, devices_ + llama_ + "--max-steps 10 --name one");
  const auto expected = losses("runs/one");
  ASSERT_EQ(expected.size(), 10U);
  for (const int n : {2, 4}) {
    const std::string name = std::to_string(n);
    const auto ranks = started(n, devices_ + llama_ + "--max-steps 10 --name " + name);
    says(ranks, "traffic    by NCCL 2.28.0 between " + name + " devices");
    expect_near(expected, losses("runs/" + name), 1e-6);
  }
}

TEST_F(RanksOnDevices, TicHasTheLossesOfOneProcess) {
  ASSERT_EQ(run(program("../data_tic").string() + " cue --output tree --per-class 1").code, 0);
  started(1, devices_ + tic_ + "--max-steps 10 --name one");
  const auto ranks = started(2, devices_ + tic_ + "--max-steps 10 --name two");
  says(ranks, "traffic    by NCCL 2.28.0 between 2 devices");
  expect_near(losses("runs/one"), losses("runs/two"), 1e-6);
}

// Spread weights, sharded moments and divided rows go by NCCL as well, in groups too.
TEST_F(RanksOnDevices, WhatIsShardedHasTheLossesOfOneProcess) {
  const std::string run = devices_ + llama_ + "--grad-checkpointing --max-steps 3 ";
  started(1, run + "--name one");
  started(2, run + "--shard full --name full");
  started(2, run + "--shard optimizer --name optimizer");
  started(4, run + "--context-parallel 2 --attn sf --group-size 8 --name divided");
  started(1, run + "--attn sf --group-size 8 --name sf");
  expect_near(losses("runs/one"), losses("runs/full"), 1e-6);
  expect_near(losses("runs/one"), losses("runs/optimizer"), 1e-6);
  expect_near(losses("runs/sf"), losses("runs/divided"), 1e-6);
}

TEST_F(RanksOnDevices, UnderMpirun) {
  if (run("command -v mpirun").code != 0) GTEST_SKIP() << "needs mpirun (openmpi-bin)";
  started(1, devices_ + llama_ + "--max-steps 3 --name one");
  for (const std::string n : {"2", "4"}) {
    const auto ranks = run("timeout 120 mpirun --allow-run-as-root --oversubscribe -np " + n + " " +
                           devices_ + llama_ + "--max-steps 3 --name mpi" + n);
    if (ranks.log.find("this build has no MPI") != std::string::npos)
      GTEST_SKIP() << "needs a build with OpenMPI (libopenmpi-dev)";
    EXPECT_EQ(ranks.code, 0) << ranks.log;
    EXPECT_NE(ranks.log.find("traffic    by NCCL 2.28.0 between " + n), std::string::npos)
        << ranks.log;
    expect_near(losses("runs/one"), losses("runs/mpi" + n), 1e-6);
  }
}

TEST_F(RanksOnDevices, WithoutNcclThereIsTheWayThroughTheHost) {
  started(1, devices_ + llama_ + "--max-steps 2 --name one");
  const std::string old = "env MULLION_SIMT_DEVICE=devices=2,nccl=21208 ";
  auto ranks = started(2, old + llama_ + "--max-steps 2 --name two");
  says(ranks, "traffic    through memory of the host: rank 0 of 2 (node ");
  says(ranks, "NCCL 2.12.8 is older than 2.14");
  expect_near(losses("runs/one"), losses("runs/two"), 1e-6);
  ranks = started(2, devices_ + llama_ + "--max-steps 2 --collectives host --name host");
  says(ranks, "traffic    through memory of the host: --collectives host");
  const std::string shared = "env MULLION_SIMT_DEVICE=devices=1 " + llama_ + "--share-device ";
  ranks = started(2, shared + "--max-steps 2 --name shared");
  says(ranks, "which NCCL refuses");
  // It fails when it begins.
  ranks = start(2, "env MULLION_SIMT_FAULT=ncclCommInitRankConfig:1:2 " + devices_ + llama_ +
                       "--max-steps 2 --name x");
  EXPECT_EQ(ranks.codes, (std::vector<int>{6, 6}));
  says(ranks, "NCCL: ncclCommInitRankConfig: unhandled system error");
  says(ranks, "try: --collectives host");
  // Asked for, and not to be had.
  ranks = start(2, old + llama_ + "--max-steps 2 --name x --collectives nccl");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2}));
  says(ranks, "--collectives nccl: rank 0 of 2 (node ");
  ranks = start(2, shared + "--max-steps 2 --name x --collectives nccl");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2}));
  ranks = start(2,
                "train_llama pretrain -m base --data train.bin --ctx-size 32 -b 1 "
                "--grad-accum-steps 2 --max-steps 1 --name x --device cpu --collectives nccl");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2}));
  says(ranks, "computes on the CPU");
}

// Two ranks with one GPU are refused, by a dry run as well; GPUs that are shown to one rank each,
// all of them called cuda:0, are not one.
TEST_F(RanksOnDevices, WhoHasTheSameDeviceIsRefused) {
  const std::string both = "ranks 0 and 1 compute on the same device (";
  for (const std::string& run :
       {"env MULLION_SIMT_DEVICE=devices=1 " + llama_, devices_ + llama_ + "--device cuda:3 "})
    for (const std::string dry : {"", "--dry-run "}) {
      const Ranks ranks = start(2, run + dry + "--max-steps 1 --name x");
      EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0];
      says(ranks, both);
      says(ranks, "--share-device allows that");
    }
  Ranks ranks = start(2, devices_ + llama_ + "--device cuda:4 --dry-run");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2}));
  says(ranks, "index 4 does not exist");
  started(1, devices_ + llama_ + "--max-steps 2 --name one");
  const std::string shown = "env CUDA_VISIBLE_DEVICES=$R MULLION_SIMT_DEVICE=devices=1,first=$R " +
                            llama_ + "--max-steps 2 --name own ";
  for (const std::string device : {"", "--device cuda:0 "})
    EXPECT_EQ(start(2, shown + device + "--dry-run").codes, (std::vector<int>{0, 0})) << device;
  ranks = start(2, shown);
  EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0})) << ranks.logs[0];
  says(ranks, "traffic    by NCCL 2.28.0 between 2 devices");
  expect_near(losses("runs/one"), losses("runs/own"), 1e-6);
}

// Waits until the run has made some steps.
const char* const kUnderWay =
    "for i in $(seq 300); do [ -e runs/x/last ] && break; sleep 0.1; done; ";

TEST_F(RanksOnDevices, ARankThatDiesOrHangsEndsTheOthers) {
  auto ranks = start(3, devices_ + llama_ + "--max-steps 100000 --name x",
                     std::string(kUnderWay) + "kill -KILL $(pgrep -P $p1 || echo $p1)");
  for (const size_t left : {0, 2}) EXPECT_EQ(ranks.codes[left], 7) << ranks.logs[left];
  says(ranks, "error: step ");
  says(ranks, "rank 1 of 3 (node ");
  ranks = start(2, devices_ + llama_ + "--max-steps 100000 --name x --resume auto --peer-timeout 2",
                "sleep 4; victim=$(pgrep -P $p1 || echo $p1); kill -STOP $victim; wait $p0; kill "
                "-KILL $victim");
  EXPECT_EQ(ranks.codes[0], 7) << ranks.logs[0];
  says(ranks, "rank 1 of 2 (node ");
  says(ranks, "does not answer: nothing in 2 s");
  started(1, devices_ + llama_ + "--max-steps 1 --name x --resume auto");
}

}  // namespace
}  // namespace mullion
