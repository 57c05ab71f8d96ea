// How ranks end where one of them alone cannot go on: the others hear its reason at once, also
// before they have met and in a dry run, and a launcher hears of the cause first.
#include <filesystem>
#include <fstream>

#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class RankEnds : public test::RankPrograms {
 protected:
  RankEnds() : RankPrograms({"train_llama", "eval_llama"}) {}
  void SetUp() override {
    RankPrograms::SetUp();
    if (IsSkipped()) return;
    for (const char* folder : {"r0", "r1", "r2"}) {
      fs::create_directory(at(folder));
      for (const char* name : {"base", "train.bin", "val.bin"})
        fs::copy(at(name), at(folder) / name, fs::copy_options::recursive);
    }
  }
  const std::string train_ =
      "env -C r$R train_llama pretrain --data train.bin --ctx-size 64 --output runs --max-steps 2 "
      "--threads 1 -m base --lora-rank 4 -b 1 --grad-accum-steps 6 --json ";
  // Each rank in a folder of its own.
  test::Answer mpirun(int count, const std::string& command) const {
    return run("timeout 120 mpirun --allow-run-as-root --oversubscribe -np " +
               std::to_string(count) + " sh -c 'cd r$OMPI_COMM_WORLD_RANK && exec " + command +
               "'");
  }
  bool has_mpirun() const {
    if (run("command -v mpirun").code != 0) return false;
    const auto alone =
        run("OMPI_COMM_WORLD_RANK=0 OMPI_COMM_WORLD_SIZE=2 eval_llama ppl -m base --data val.bin");
    return alone.log.find("this build has no MPI") == std::string::npos;
  }
  static void has(const std::string& text, const std::string& words) {
    EXPECT_NE(text.find(words), std::string::npos) << words << ": " << text;
  }
};

// They would wait for two minutes.
TEST_F(RankEnds, ARankThatCannotStartSaysSoToThoseWhoWait) {
  for (const size_t wrong : {0, 1, 2}) {
    const std::string R = std::to_string(wrong);
    const Ranks ranks = start(3, train_, "", "$([ $R = " + R + " ] && echo --no-such-flag)");
    for (size_t r = 0; r < 3; ++r) {
      EXPECT_EQ(ranks.codes[r], r == wrong ? 2 : 7) << ranks.logs[r];
      has(ranks.logs[r], "--no-such-flag");
      if (r != wrong) has(ranks.logs[r], "rank " + R + " of 3 (node ");
    }
  }
}

TEST_F(RankEnds, WhatAllSayTheFirstOneSays) {
  Ranks ranks = start(3, train_ + "--no-such-flag");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2, 2}));
  has(ranks.logs[0], "error: unknown flag --no-such-flag");
  EXPECT_EQ(ranks.json()["exit_code"], 2);
  for (const char* r : {"1", "2"})
    EXPECT_EQ(
        test::contents(at("out" + std::string(r))) + test::contents(at("log" + std::string(r))),
        "");
  // Warnings of the arguments and what gives way to them, of all ranks and of one.
  std::ofstream(at("c.toml")) << "[train]\nepochs = 3\n";
  ranks = start(2, train_ + "--dry-run --lr 2e-3 --lr 1e-3 -c ../c.toml", "",
                "$([ $R = 1 ] && echo --warmup-steps 3 --warmup-steps 0 || echo --warmup-steps 0)");
  EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0})) << ranks.logs[0] << ranks.logs[1];
  has(ranks.logs[0], "warning: --lr is given several times");
  has(ranks.logs[0], "c.toml:2: train.epochs = 3.0 gives way to --max-steps");
  has(ranks.logs[0], "rank 1 of 2 (node ");
  has(ranks.logs[0], "): --warmup-steps is given several times");
  EXPECT_EQ(ranks.logs[0].find("): --lr is given"), std::string::npos) << ranks.logs[0];
  EXPECT_EQ(ranks.logs[1], "");
}

// Text that one of them or all are asked for.
TEST_F(RankEnds, NobodyWaitsForARankThatWasAskedForText) {
  for (const std::string flag : {"--help", "--print-config"}) {
    Ranks ranks = start(2, train_ + flag);
    EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0}));
    EXPECT_NE(test::contents(at("out0")), "");
    EXPECT_EQ(test::contents(at("out1")), "");
    for (const size_t asked : {0, 1}) {
      const std::string R = std::to_string(asked);
      ranks = start(2, train_, "", "$([ $R = " + R + " ] && echo " + flag + ")");
      EXPECT_EQ(ranks.codes[asked], 0) << ranks.logs[asked];
      EXPECT_EQ(ranks.codes[1 - asked], 7) << ranks.logs[1 - asked];
      EXPECT_NE(test::contents(at("out" + R)), "");
      has(ranks.logs[1 - asked], "rank " + R + " of 2 (node ");
      has(ranks.logs[1 - asked], "ended: was asked for " + flag);
    }
  }
}

// Who says that it is none tells nobody, though its arguments are wrong.
TEST_F(RankEnds, AProcessThatIsNoRankTellsNobody) {
  const Ranks ranks = start(2, train_ + "--rendezvous-timeout 2", "",
                            "$([ $R = 1 ] && echo --launcher none --no-such-flag)");
  EXPECT_EQ(ranks.codes, (std::vector<int>{7, 2})) << ranks.logs[0];
  has(ranks.logs[0], "did not come");
  EXPECT_EQ(ranks.logs[1].find("error: unknown flag"), 0U) << ranks.logs[1];
}

TEST_F(RankEnds, ADryRunIsRefusedAtAllRanks) {
  const std::string dry = train_ + "--dry-run ";
  EXPECT_EQ(start(2, dry).codes, (std::vector<int>{0, 0}));
  // The first one, who plans: by its files; all, by their options.
  fs::resize_file(at("r0/base/model.safetensors"), 1000);
  Ranks ranks = start(2, dry);
  EXPECT_EQ(ranks.codes, (std::vector<int>{3, 7})) << ranks.logs[0];
  has(ranks.logs[1], "rank 0 of 2 (node ");
  has(ranks.logs[1], "model.safetensors");
  ranks = start(2, dry, "", "--weight-decay 0.$R");
  EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0] << ranks.logs[1];
  has(ranks.logs[0], "in optim.weight_decay: ");
  ranks = start(2, dry, "", "$([ $R = 1 ] && echo --device cuda:9)");
  EXPECT_EQ(ranks.codes[1], 2) << ranks.logs[1];
  EXPECT_NE(ranks.codes[0], 0) << ranks.logs[0];
}

// Before they meet, on one terminal.
TEST_F(RankEnds, MpirunShowsEachThingOnce) {
  if (!has_mpirun()) GTEST_SKIP() << "needs mpirun (openmpi-bin) and a build with OpenMPI";
  const auto count = [](const std::string& text, const std::string& words) {
    size_t found = 0;
    for (size_t i = text.find(words); i != std::string::npos; i = text.find(words, i + 1)) ++found;
    return found;
  };
  const std::string train = "train_llama pretrain --data train.bin --json ";
  const std::string at_1 = "$([ $OMPI_COMM_WORLD_RANK = 1 ] && echo ";
  auto all = mpirun(3, train + "--no-such-flag >>../out");
  EXPECT_EQ(all.code, 2) << all.log;
  EXPECT_EQ(count(all.log, "unknown flag --no-such-flag"), 1U) << all.log;
  EXPECT_EQ(count(test::contents(at("out")), "unknown flag"), 1U);
  fs::remove(at("out"));
  all = mpirun(3, train + "--help >>../out");
  EXPECT_EQ(all.code, 0) << all.log;
  EXPECT_EQ(count(test::contents(at("out")), "usage:"), 1U);
  const auto wrong = mpirun(3, train + at_1 + "--no-such-flag)");
  EXPECT_EQ(wrong.code, 2) << wrong.log;
  has(wrong.log, "rank 1 of 3 (node ");
  EXPECT_EQ(wrong.json()["exit_code"], 7) << wrong.last;
  has(wrong.json()["error"], "ended: unknown flag --no-such-flag");
  const auto asked = mpirun(3, train + at_1 + "--help)");
  EXPECT_NE(asked.code, 0) << asked.log;
  has(asked.log, "ended: was asked for --help");
}

// The exit code of the run is that of the cause, and the first rank's result is written, whichever
// rank it is and whether it ends with an error or not.
TEST_F(RankEnds, MpirunHearsOfTheCause) {
  if (!has_mpirun()) GTEST_SKIP() << "needs mpirun (openmpi-bin) and a build with OpenMPI";
  const std::string ppl = "eval_llama ppl -m base --data val.bin --ctx-size 64 --threads 1 --json";
  const auto whole = mpirun(2, ppl);
  EXPECT_EQ(whole.code, 0) << whole.log;
  for (const std::string cause : {"0", "1"}) {
    const fs::path data = at("r" + cause) / "val.bin";
    const fs::path kept = at("kept");
    fs::rename(data, kept);
    for (int i = 0; i < 2; ++i) {
      const auto ended = mpirun(2, ppl);
      EXPECT_EQ(ended.code, 3) << ended.log;
      ASSERT_FALSE(ended.last.empty()) << ended.log;
      EXPECT_EQ(ended.json()["exit_code"], cause == "0" ? 3 : 7) << ended.last;
      has(ended.json()["error"], "val.bin");
    }
    fs::rename(kept, data);
  }
}

}  // namespace
}  // namespace mullion
