// How ranks end where one of them alone cannot go on: the others hear its reason at once, also
// before they have met and in a dry run, and a launcher hears of the cause first.
#include <filesystem>

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
      has(ranks.logs[r], "rank " + R + " of 3 (node ");
    }
    EXPECT_TRUE(ranks.logs[wrong].starts_with("rank " + R)) << ranks.logs[wrong];
    has(ranks.logs[wrong], "\n  try: ");
  }
}

TEST_F(RankEnds, AWrongLauncherOrJobIsToldAsWell) {
  for (const std::string wrong : {"--launcher srun", "--launcher mpi", "-- --launcher none"}) {
    const Ranks ranks = start(2, train_, "", "$([ $R = 1 ] && echo " + wrong + ")");
    EXPECT_EQ(ranks.codes, (std::vector<int>{7, 2})) << ranks.logs[0] << ranks.logs[1];
    has(ranks.logs[0], "rank 1 of 2 (node ");
    EXPECT_TRUE(ranks.logs[1].starts_with("rank 1 of 2 (node ")) << ranks.logs[1];
  }
  const Ranks ranks =
      start(2, "eval_llama ", "",
            "$([ $R = 1 ] && echo pp || echo ppl -m base --data val.bin --ctx-size 64 --json)");
  EXPECT_EQ(ranks.codes, (std::vector<int>{7, 2})) << ranks.logs[0] << ranks.logs[1];
  has(ranks.logs[0], "pp: not one of ");
}

// The variables of a launcher that is not asked for say nothing of this process.
TEST_F(RankEnds, AProcessThatIsAloneBesideALauncherHasNoName) {
  for (const std::string none : {"--launcher none", "--launcher=none"}) {
    const auto alone = run("RANK=1 WORLD_SIZE=2 MASTER_PORT=23456 timeout 4 eval_llama ppl " +
                           none + " --no-such-flag");
    EXPECT_EQ(alone.code, 2) << alone.log;  // nor is anybody told
    EXPECT_TRUE(alone.log.starts_with("error: ")) << alone.log;
  }
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

// The exit code of the run is that of the cause, and the first rank's result is written, whichever
// rank it is and whether it ends with an error or not.
TEST_F(RankEnds, MpirunHearsOfTheCause) {
  if (run("command -v mpirun").code != 0) GTEST_SKIP() << "needs mpirun (openmpi-bin)";
  const auto mpirun = [&](const std::string& command) {
    return run(
        "timeout 120 mpirun --allow-run-as-root --oversubscribe -np 2 sh -c "
        "'cd r$OMPI_COMM_WORLD_RANK && exec " +
        command + "'");
  };
  const std::string ppl = "eval_llama ppl -m base --data val.bin --ctx-size 64 --threads 1 --json";
  const auto whole = mpirun(ppl);
  if (whole.log.find("this build has no MPI") != std::string::npos)
    GTEST_SKIP() << "needs a build with OpenMPI (libopenmpi-dev)";
  EXPECT_EQ(whole.code, 0) << whole.log;
  for (const std::string cause : {"0", "1"}) {
    const fs::path data = at("r" + cause) / "val.bin";
    const fs::path kept = at("kept");
    fs::rename(data, kept);
    for (int i = 0; i < 2; ++i) {
      const auto ended = mpirun(ppl);
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
