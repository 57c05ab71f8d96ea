// What dry runs say of ranks, by a launcher's variables or --ranks, and that they refuse what the
// run itself refuses, in the same words.
#include <nlohmann/json.hpp>

#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

class RankPlan : public test::RankPrograms {
 protected:
  RankPlan() : RankPrograms({"train_llama", "train_tic"}) {}
  const std::string llama_ =
      "train_llama pretrain --data train.bin --ctx-size 64 --output runs --max-steps 2 --threads 1 "
      "--json -m base --lora-rank 4 -b 1 --grad-accum-steps 12 ";
  const std::string tic_ =
      "train_tic --data-dir cue --model tic-n --img-size 32 --output runs --threads 1 --json -b 1 "
      "--grad-accum-steps 12 --cue-count 480 --workers 1 --max-steps 2 ";
  nlohmann::json plan(const std::string& command) const {
    const auto answer = run(command + "--dry-run");
    EXPECT_EQ(answer.code, 0) << answer.log;
    return answer.json();
  }
};

TEST_F(RankPlan, MemoryAndBytesOfEachRank) {
  for (const std::string& command : {llama_, tic_}) {
    const auto alone = plan(command);
    EXPECT_FALSE(alone.contains("ranks"));
    const auto none = plan(command + "--ranks 4 "),
               optimizer = plan(command + "--ranks 4 --shard optimizer "),
               full = plan(command + "--ranks 4 --shard full --grad-checkpointing ");
    EXPECT_EQ(none["ranks"], 4);
    EXPECT_GE(none["memory_gib"], alone["memory_gib"]);  // with gradients on their way
    EXPECT_LT(optimizer["memory_gib"], none["memory_gib"]);
    EXPECT_LT(full["memory_gib"], optimizer["memory_gib"]);
    EXPECT_LT(none["hours"], alone["hours"]);
    // Gradients of all that is trained: 2 (n - 1) / n of their bytes.
    const int64_t trained = alone.contains("trainable") ? alone["trainable"] : alone["params"];
    EXPECT_NEAR(none["sent_mib_a_step"], 2 * 0.75 * 4 * static_cast<double>(trained) / 0x1p20,
                1e-3);
    // With the owner's values to the three others.
    EXPECT_GT(optimizer["sent_mib_a_step"], none["sent_mib_a_step"]);
    EXPECT_GT(full["spread_gib"], 0);
    EXPECT_LT(full["spread_gib"], full["memory_gib"]);
  }
  // A part of each row: keys and values of the neighbours, too.
  EXPECT_GT(plan(llama_ + "--attn full --ranks 4 --context-parallel 2 ")["sent_mib_a_step"],
            plan(llama_ + "--attn full --ranks 4 ")["sent_mib_a_step"]);
}

TEST_F(RankPlan, ALauncherSaysHowManyThereAre) {
  const Ranks ranks = start(3, llama_ + "--dry-run");
  EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0, 0})) << ranks.logs[0] << ranks.logs[1];
  EXPECT_EQ(ranks.json()["ranks"], 3);
  EXPECT_NE(ranks.logs[0].find("ranks      3: --shard none, 12 passes a step, 4 of each"),
            std::string::npos)
      << ranks.logs[0];
  EXPECT_EQ(ranks.logs[1], "");
  const Ranks other = start(3, llama_ + "--dry-run --ranks 4");
  EXPECT_EQ(other.codes[0], 2);
  EXPECT_NE(other.logs[0].find("--ranks 4: RANK is of 3 ranks"), std::string::npos)
      << other.logs[0];
  refused(llama_ + "--ranks 4", 2, {"--ranks 4", "without --dry-run"});
}

// The message of the run, by that of the dry run.
TEST_F(RankPlan, RefusalsAreThoseOfTheRun) {
  const std::string few = "--train-also none --lora-rank 1 --lora-targets q_proj ";
  for (const auto& [command, count, words] : std::vector<std::tuple<std::string, int, std::string>>{
           {llama_ + "--grad-accum-steps 2 ", 3, "3 ranks for 2 passes a step"},
           {llama_ + "--grad-accum-steps 2 ", 3, "try: fewer ranks, or more --grad-accum-steps"},
           {llama_ + "--grad-accum-steps 2 -b 2 ", 3, "try: a smaller --batch-size"},
           {llama_ + "--grad-accum-steps 1 --context-parallel 2 ", 4,
            "2 groups of 2 ranks for 1 pass a step: a group makes whole passes"},
           {tic_ + "--grad-accum-steps 2 ", 3, "3 ranks for 2 passes a step"},
           {llama_ + "--shard full ", 2, "--shard full: weights come again"},
           {tic_ + "--shard full ", 2, "--shard full: weights come again"},
           {llama_ + "--shard full --grad-checkpointing --grad-accum-steps 4 ", 3,
            "4 passes a step (--grad-accum-steps) are no multiple of 3 ranks"},
           {tic_ + "--shard full --grad-checkpointing --grad-accum-steps 4 ", 3,
            "4 passes a step (--grad-accum-steps) are no multiple of 3 ranks"},
           {llama_ + "--context-parallel 2 ", 3, "--context-parallel 2: 3 ranks are no multiple"},
           {llama_ + few + "--shard optimizer --grad-accum-steps 5 ", 5,
            "4 trained parameters are fewer than 5 ranks"},
           {llama_ + "--cuda-graph on ", 2, "--cuda-graph on: steps of several ranks"},
           {llama_ + "--device cpu --collectives nccl ", 2, "computes on the CPU"}}) {
    const auto dry = run(command + "--dry-run --ranks " + std::to_string(count));
    EXPECT_EQ(dry.code, 2) << command << dry.log;
    EXPECT_NE(dry.log.find(words), std::string::npos) << command << dry.log;
    const Ranks ranks = start(count, command);
    EXPECT_EQ(ranks.codes[0], 2) << command << ranks.logs[0];
    EXPECT_NE(ranks.logs[0].find(words), std::string::npos) << command << ranks.logs[0];
  }
}

// A launcher of one rank: a process that is alone, for the dry run as for the run.
TEST_F(RankPlan, OneRankIsAlone) {
  for (const std::string shard : {"optimizer", "full --grad-checkpointing"}) {
    const Ranks one =
        started(1, llama_ + "--save-every 1 --name " + shard.substr(0, 4) + " --shard " + shard);
    EXPECT_NE(one.logs[0].find("has no effect in a process that is alone"), std::string::npos)
        << one.logs[0];
    const std::string last = "runs/" + shard.substr(0, 4) + "/last/";
    EXPECT_TRUE(fs::exists(at(last + "optimizer.safetensors"))) << shard;
    EXPECT_FALSE(fs::exists(at(last + "optimizer.rank-000.safetensors"))) << shard;
  }
  const Ranks recorded = start(1, llama_ + "--cuda-graph on");
  EXPECT_EQ(recorded.codes[0], 2);
  EXPECT_NE(recorded.logs[0].find("--cuda-graph on: the cpu has no graphs"), std::string::npos)
      << recorded.logs[0];
}

TEST_F(RankPlan, WhatChangesNothingAloneIsToldUnlessItIsTheDefault) {
  const auto of = [&](const std::string& flags) { return run(llama_ + "--dry-run " + flags).log; };
  EXPECT_NE(of("--shard optimizer").find("--shard optimizer: has no effect"), std::string::npos);
  EXPECT_NE(of("--no-overlap").find("--no-overlap: has no effect"), std::string::npos);
  EXPECT_EQ(of("--shard none --overlap").find("has no effect"), std::string::npos);
}

}  // namespace
}  // namespace mullion
