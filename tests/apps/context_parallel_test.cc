// train_llama --context-parallel as a user starts it: the losses of one process, alone and beside
// groups that take other rows, and what is refused.
#include "tests/apps/rank_programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

class ContextParallelRuns : public test::RankPrograms {
 protected:
  ContextParallelRuns() : RankPrograms({"train_llama"}) {}
  static std::string training(const std::string& more) {
    return "train_llama pretrain --data train.bin --val-data val.bin --eval-max-rows 5 --ctx-size "
           "64 "
           "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 --json -m base --lora-rank 4 -b 2 "
           "--grad-accum-steps 2 --max-steps 10 " +
           more;
  }
};

TEST_F(ContextParallelRuns, HaveTheLossesOfOneProcess) {
  for (const std::string attention : {"sf --group-size 16", "full"}) {
    const std::string name = attention.substr(0, 2);
    const std::string flags = "--attn " + attention;
    started(1, training(flags + " --name " + name));
    const auto ranks = started(2, training(flags + " --context-parallel 2 --name " + name + "-2"));
    expect_near(losses("runs/" + name), losses("runs/" + name + "-2"), 1e-6);
    expect_near(losses("runs/" + name, "val"), losses("runs/" + name + "-2", "val"), 1e-6);
    EXPECT_NE(ranks.logs[0].find("1 group of 2 ranks, parts of 32 tokens"), std::string::npos)
        << ranks.logs[0];
  }
  // Two groups, which take passes in turn; blocks are computed again.
  started(4, training("--attn sf --group-size 16 --context-parallel 2 --grad-checkpointing "
                      "--name four"));
  expect_near(losses("runs/sf"), losses("runs/four"), 1e-6);
  expect_near(losses("runs/sf", "val"), losses("runs/four", "val"), 1e-6);
}

// Rows of all lengths, each with its number of targets.
TEST_F(ContextParallelRuns, TuneOnInstructionsPaddedAndPacked) {
  const std::string golden = std::string(test::source_dir) + "/tests/golden/sft/";
  const auto tuning = [&](const std::string& more) {
    return "train_llama sft --model '" + golden + "model' --data '" + golden +
           "rows.json' --ctx-size 256 --attn sf --group-size 64 --max-steps 6 --output runs "
           "--initial-adapter '" +
           golden +
           "adapter' --train-also none --batch-size 2 --grad-accum-steps 2 --lr 5e-3 "
           "--warmup-steps 0 --threads 1 " +
           more;
  };
  for (const std::string pack : {"", "--pack "}) {
    const std::string name = pack.empty() ? "padded" : "packed";
    started(1, tuning(pack + "--name " + name));
    started(2, tuning(pack + "--context-parallel 2 --name " + name + "-2"));
    expect_near(losses("runs/" + name), losses("runs/" + name + "-2"), 2e-6);
  }
}

TEST_F(ContextParallelRuns, RefuseWhatCannotBeDivided) {
  const auto refused_by_all = [&](int ranks, const std::string& flags, const std::string& words) {
    const Ranks ended = start(ranks, training(flags + " --name refused"));
    for (const int code : ended.codes) EXPECT_NE(code, 0);
    EXPECT_EQ(ended.codes[0], 2) << ended.logs[0];
    EXPECT_NE(ended.logs[0].find(words), std::string::npos) << ended.logs[0];
  };
  refused(training("--context-parallel 2 --name refused"), 2,
          {"--context-parallel 2: 1 rank is no multiple of it"});
  refused(training("--context-parallel 2 --name refused --dry-run"), 2,
          {"--context-parallel 2: 1 rank is no multiple of it", "try: --ranks 2"});
  refused_by_all(2, "--context-parallel 3", "2 ranks are no multiple of it");
  refused_by_all(2, "--context-parallel 2 --lora-dropout 0.1", "--lora-dropout");
  refused_by_all(2, "--context-parallel 2 --attn shift-up-only --group-size 16",
                 "shifts on one side only");
}

}  // namespace
}  // namespace mullion
