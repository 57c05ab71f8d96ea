// train_tic --shard full: the losses, averages and evaluations of a training without, the memory
// that is said, and checkpoints for any other way to share.
#include <filesystem>
#include <sstream>

#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::contents;

class SpreadTic : public test::RankPrograms {
 protected:
  SpreadTic() : RankPrograms({"train_tic", "eval_tic", "data_tic"}) {}
  // Ten classes of four pictures to train on and to validate by: three ranks do not divide them.
  void SetUp() override {
    RankPrograms::SetUp();
    if (IsSkipped()) return;
    ASSERT_EQ(run("data_tic cue --output tree --per-class 4 --img-size 32").code, 0);
  }
  const std::string tic_ =
      "train_tic --data-dir tree --model tic-n --img-size 32 --output runs --threads 1 --json -b 1 "
      "--grad-accum-steps 12 --warmup-epochs 0 --workers 1 --drop-path 0.1 ";
};

TEST_F(SpreadTic, RecomputedBlocksHaveTheSameBits) {
  started(1, tic_ + "--max-steps 3 --name plain");
  started(1, tic_ + "--max-steps 3 --name again --grad-checkpointing");
  EXPECT_EQ(losses("runs/plain"), losses("runs/again"));
  EXPECT_EQ(contents(at("runs/plain/last/model.safetensors")),
            contents(at("runs/again/last/model.safetensors")));
}

TEST_F(SpreadTic, LossesAndAveragesAreThoseOfATrainingWithout) {
  const std::string more = "--max-steps 4 --model-ema --model-ema-decay 0.5 ";
  started(1, tic_ + more + "--name one");
  for (const int n : {2, 3}) {
    const std::string name = std::to_string(n);
    started(n, tic_ + more + "--shard full --grad-checkpointing --name " + name);
    expect_near(losses("runs/one"), losses("runs/" + name), 1e-6);
    expect_near(losses("runs/one", "val"), losses("runs/" + name, "val"), 1e-5);
    const auto judged = [&](const std::string& run) {
      return started(1, "eval_tic --data-dir tree --checkpoint runs/" + run +
                            " --use-ema -b 8 --threads 1 --json")
          .json()["loss"]
          .get<double>();
    };
    EXPECT_NEAR(judged("one"), judged(name), 1e-5 * judged("one"));
  }
}

TEST_F(SpreadTic, ARunMayChangeHowItIsShared) {
  const std::string step = tic_ +
                           "--model-ema --sched constant_with_warmup --name a --resume auto "
                           "--allow-mismatch schedule.max_steps ",
                    full = "--shard full --grad-checkpointing";
  started(1, tic_ + "--model-ema --sched constant_with_warmup --max-steps 6 --name b");
  started(2, step + "--max-steps 2 " + full);
  EXPECT_TRUE(fs::exists(at("runs/a/last/optimizer.rank-001.safetensors")));
  started(2, step + "--max-steps 3 --shard optimizer");
  started(3, step + "--max-steps 4 " + full);
  started(1, step + "--max-steps 5");
  started(2, step + "--max-steps 6 " + full);
  expect_near(losses("runs/b"), losses("runs/a"), 1e-5);
}

// tic-t at small images: 27 million weights, next to which activations are few.
TEST_F(SpreadTic, TakesTheMemoryThatIsSaid) {
  const std::string large =
      "train_tic --data-dir tree --model tic-t --img-size 32 --output runs --threads 1 --json -b 1 "
      "--grad-accum-steps 2 --warmup-epochs 0 --workers 1 --max-steps 2 --grad-checkpointing "
      "--name x ";
  const auto said = [&](const std::string& flags, const char* key) {
    const auto plan = run(large + "--dry-run " + flags);
    EXPECT_EQ(plan.code, 0) << plan.log;
    return plan.json()[key].get<double>();
  };
  // Of tensors alone, as the metrics have it: without blocks that the allocator keeps.
  const double planned = said("--ranks 2 --shard full", "spread_gib");
  EXPECT_LT(said("--ranks 2 --shard full", "memory_gib"), 0.8 * said("", "memory_gib"));
  started(2, large + "--shard full");
  std::istringstream lines(contents(at("runs/x/metrics.jsonl")));
  double peak = 0;
  for (std::string text; std::getline(lines, text);)
    if (const auto json = nlohmann::json::parse(text); json["split"] == "train")
      peak = json["mem_gib"];
  EXPECT_NEAR(peak, planned, 0.1 * planned);
}

}  // namespace
}  // namespace mullion
