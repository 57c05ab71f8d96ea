// A folder with a few small images of the cue task, and a command that trains a TiC on them.
#pragma once
#include <string>

#include "tests/apps/programs.h"

namespace mullion::test {

class TicPrograms : public Programs {
 protected:
  TicPrograms() : Programs({"train_tic", "eval_tic", "tool_tic", "data_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    EXPECT_EQ(run("data_tic cue --output tree --per-class 4").code, 0);
  }

  const std::string train_ =
      "train_tic --data-dir tree --model tic-n --msa-kernel 3 -b 8 --img-size 32 --output runs "
      "--warmup-epochs 0 --lr 1e-3 --threads 1 --json ";
};

}  // namespace mullion::test
