// Sizes and kinds of TiC by flags, the average as the start of another training, and images that an
// evaluation has to enlarge: each is used, refused or announced.
#include "tensor/io/file.h"
#include "tests/apps/programs.h"

namespace mullion {
namespace {

using test::Answer;
using test::contents;

class TicChoices : public test::Programs {
 protected:
  TicChoices() : Programs({"train_tic", "eval_tic", "tool_tic", "data_tic"}) {
    result("data_tic cue --output tree --per-class 4 --json");
  }
  nlohmann::json args(const std::string& name) const {
    return nlohmann::json::parse(contents(at("runs/" + name + "/last/config.json")))["model_args"];
  }
  const std::string train_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 8 --img-size 32 --output runs "
      "--warmup-epochs 0 --threads 1 --max-steps 2 ";
  const std::string frozen_ = "--lr 0 --warmup-lr 0 --min-lr 0 ";
};

TEST_F(TicChoices, WidthDepthsAndHeadsAreFlags) {
  const Answer trained =
      run(train_ + "--embed-dim 16 --depths 1,3 --num-heads 4,8 --mlp-ratio 2 --name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_EQ(args("a")["dim"], 16);
  EXPECT_EQ(args("a")["depths"], (std::vector<int>{1, 3}));
  EXPECT_EQ(args("a")["heads"], (std::vector<int>{4, 8}));
  EXPECT_EQ(args("a")["mlp_ratio"], 2);
  EXPECT_EQ(result("eval_tic --data-dir tree --checkpoint runs/a --json")["count"], 40);
  // What a training takes from a checkpoint, its record says, and the record alone gives it again.
  EXPECT_EQ(run(train_ + "--initial-checkpoint runs/a --name b").code, 0);
  EXPECT_EQ(args("b"), args("a"));
  EXPECT_EQ(run("train_tic -c runs/b/config.toml --name c").code, 0);
  EXPECT_EQ(args("c"), args("a"));

  refused(train_ + "--depths 1,3 --name d", 2, {"heads: 3 numbers for 2 stages"});
  refused(train_ + "--num-heads 3,4,8 --name d", 2, {"heads: 3 do not divide the 32 channels"});
  refused(train_ + "--depths 0,1,1 --name d", 2, {"depths"});
}

TEST_F(TicChoices, WhatHasNoEffectIsSaid) {
  const auto idle = [&](const std::string& flags, const char* flag) {
    const Answer plan = run("tool_tic info --img-size 32 " + flags);
    EXPECT_EQ(plan.code, 0) << plan.log;
    EXPECT_NE(plan.log.find(std::string(flag) + ": has no effect"), std::string::npos) << plan.log;
  };
  idle("--model tic-n --msa-variant depthwise --num-heads 1,2,4", "--num-heads 1,2,4");
  idle("--model tic-rel-t --mlp-ratio 3", "--mlp-ratio 3");
  idle("--model tic-rel-t --mlp-dwconv", "--mlp-dwconv");
  idle("--model tic-rel-t --pool off", "--pool off");
}

// Half-way effects of the schedule and of sizes.
TEST_F(TicChoices, WhatAFlagComesToIsSaid) {
  const auto says = [&](const std::string& flags, const char* words) {
    const Answer plan = run(train_ + "--dry-run " + flags);
    EXPECT_EQ(plan.code, 0) << plan.log;
    EXPECT_NE(plan.log.find(words), std::string::npos) << words << "\n" << plan.log;
  };
  says("--aug-repeats 3", "stands in it 3 times (--aug-repeats): a pass sees 14 of the 40 images");
  says("--mixup 0.8 --mixup-off-epoch 2", "of a batch (probability 1) in the first 2 passes");
  says("--mixup 0.8 --mixup-off-epoch 2", "--mixup-off-epoch 2: has no effect");
  says("--aa rand-m99", "magnitude 99, cut to 10");
  says("--shift-size 16",
       "is a whole turn of the map of 16x16 of stage 1: it moves nothing there\n");
  const Answer plain = run(train_ + "--dry-run");
  EXPECT_EQ(plain.log.find("whole turn"), std::string::npos) << plain.log;
}

TEST_F(TicChoices, ADilationMakesItDilated) {
  ASSERT_EQ(run(train_ + "--msa-dilation 2 --name a").code, 0);
  EXPECT_EQ(args("a")["variant"], "dilated");
  refused(train_ + "--msa-variant dilated --name b", 2,
          {"dilated with dilation 1", "--msa-dilation"});
}

TEST_F(TicChoices, ATrainingStartsFromTheAverage) {
  ASSERT_EQ(run(train_ + "--lr 1e-2 --model-ema --name a").code, 0);
  const std::string from = train_ + frozen_ + "--initial-checkpoint runs/a/last --name ";
  const Answer started = run(from + "b --initial-ema");
  ASSERT_EQ(started.code, 0) << started.log;
  EXPECT_NE(started.log.find("starts from the averaged weights of runs/a/last"), std::string::npos)
      << started.log;
  ASSERT_EQ(run(from + "c").code, 0);
  const std::string raw = contents(at("runs/a/last/model.safetensors")),
                    averaged = contents(at("runs/a/last/model_ema.safetensors"));
  EXPECT_NE(raw, averaged);
  EXPECT_EQ(contents(at("runs/b/last/model.safetensors")), averaged);
  EXPECT_EQ(contents(at("runs/c/last/model.safetensors")), raw);
  refused(train_ + "--initial-checkpoint runs/b --initial-ema --name d", 3,
          {"model_ema.safetensors: is missing", "--model-ema"});
}

TEST_F(TicChoices, ImagesThatAnEvaluationEnlargesAreCounted) {
  const Answer trained = run(train_ + "--name a");
  ASSERT_EQ(trained.code, 0) << trained.log;
  EXPECT_EQ(trained.log.find("enlarged"), std::string::npos) << trained.log;
  const std::string eval = "eval_tic --data-dir tree --checkpoint runs/a --img-size ";
  EXPECT_EQ(run(eval + "24,32").log.find("enlarged"), std::string::npos);
  for (const char* size : {"33", "32x48"}) {
    const Answer larger = run(eval + size);
    EXPECT_NE(larger.log.find("enlarged"), std::string::npos) << size << larger.log;
    EXPECT_NE(larger.log.find("40"), std::string::npos) << size << larger.log;
  }
}

}  // namespace
}  // namespace mullion
