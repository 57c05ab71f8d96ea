// A folder with a LLaMA of a few thousand parameters and rows of tokens to train and validate it
// on.
#pragma once
#include <cmath>
#include <string>

#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion::test {

class LlamaPrograms : public Programs {
 protected:
  LlamaPrograms() : Programs({"train_llama", "eval_llama", "data_llama", "chat_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    write_tiny_llama(at("base"));
    write_lexicon_tokens(at("train.bin"), 24);
    write_lexicon_tokens(at("val.bin"), 6, kTinyContext, 1000);
  }
  // The mean loss over the first four rows of val.bin, which a run's evaluation sees as well.
  double nll(const std::string& model) const {
    const auto found = result("eval_llama ppl --data val.bin --ctx-size 64 --stride 64 " + model +
                              " --threads 1 --json");
    EXPECT_EQ(found["windows"], 4);
    EXPECT_EQ(found["tokens"], 4 * 63);
    EXPECT_NEAR(found["perplexity"], std::exp(found["nll"].get<double>()), 1e-9);
    return found["nll"];
  }

  const std::string common_ =
      "train_llama pretrain --data train.bin --val-data val.bin --eval-max-rows 4 --ctx-size 64 "
      "--output runs --warmup-steps 0 --lr 3e-3 --threads 1 --json ";
  const std::string lora_ = common_ + "-m base --lora-rank 4 -b 2 --grad-accum-steps 1 ";
};

}  // namespace mullion::test
