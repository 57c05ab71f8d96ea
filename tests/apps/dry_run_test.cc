// A training's --dry-run is refused what the run itself is refused before its first step, with the
// same code in the same words, and leaves nothing behind, neither then nor where it is not.
#include <cstring>
#include <fstream>

#include "models/llama/export_gguf.h"
#include "tensor/io/gguf.h"
#include "tensor/io/json.h"
#include "tests/apps/llama_programs.h"
#include "tests/source_dir.h"

namespace mullion::test {
namespace {

namespace fs = std::filesystem;

class DryRun : public LlamaPrograms {
 protected:
  // The error and its hints; what was said before, the plan among it, is not compared.
  static std::string error_in(const std::string& log) {
    const size_t at = log.find("error: ");
    return at == std::string::npos ? log : log.substr(at);
  }
  // The names of all folders; of files sizes and times as well.
  std::string everything() const {
    run("{ find . -type d; find . -type f ! -path ./log ! -path ./all -printf '%p %s %T@\\n'; } | "
        "sort > all");
    return contents(at("all"));
  }
  // `words`: of the error.
  void same_refusal(const std::string& command, int code, const std::string& words) const {
    const std::string before = everything();
    const Answer dry = run(command + " --dry-run");
    EXPECT_EQ(everything(), before) << command;
    const Answer real = run(command);
    EXPECT_EQ(dry.code, code) << command << "\n" << dry.log;
    EXPECT_EQ(real.code, code) << command << "\n" << real.log;
    EXPECT_NE(error_in(dry.log).find(words), std::string::npos) << command << "\n" << dry.log;
    EXPECT_EQ(error_in(dry.log), error_in(real.log)) << command;
  }
  void in_every_folder(const std::string& train) const {
    ASSERT_EQ(run(train + "--max-steps 2 --name taken").code, 0);
    run("mkdir -p held; echo > file");
    same_refusal(train + "--name a/b", 2, "--name: a/b is not one folder's name");
    same_refusal(train + "--name taken", 2, "taken: holds the checkpoints of a run already");
    same_refusal(train + "--output file --name x", 4, "file/x: cannot create the folder");
    same_refusal(train + "--output /proc/none --name x", 4, "cannot create the folder");
    same_refusal(train + "--resume runs/none", 2, "--resume runs/none: no such folder");
    same_refusal(train + "--resume auto", 2, "--resume auto: needs --name");
    same_refusal(train + "--name taken --resume auto --lr 1e-4", 2, "optim.lr");
    same_refusal(train + "--cuda-graph on --name x", 2, "--cuda-graph on: the cpu has no graphs");
    same_refusal(train + "--amp tf32 --name x", 2, "--amp tf32: the cpu has no products of TF32");
    same_refusal("flock runs/taken/LOCK " + train + "--name taken --resume auto", 2, "in use by");
    const Answer whole = run(train + "--name taken --resume auto --max-steps 2 --dry-run");
    EXPECT_EQ(whole.code, 0) << whole.log;
    EXPECT_NE(whole.log.find("resumed at step 2"), std::string::npos) << whole.log;
    const std::string before = everything();
    EXPECT_EQ(run(train + "--name new --dry-run").code, 0);
    EXPECT_EQ(run(train + "--output deep/er --name new --dry-run").code, 0);
    EXPECT_EQ(everything(), before);
  }
};

TEST_F(DryRun, OfAPretraining) {
  in_every_folder(lora_ + "--device cpu ");
  same_refusal(lora_ + "--lora-targets no_proj --name x", 2,
               "no projection of the model is called");
  ASSERT_EQ(run(lora_ + "--max-steps 2 --name four").code, 0);
  same_refusal(common_ + "-m base --lora-rank 8 --initial-adapter runs/four --name x", 2,
               "--lora-rank 8: the initial adapter has rank 4");
  // An adapter of another model.
  LlamaConfig wide = tiny_config();
  wide.intermediate_size *= 2;
  write_tiny_llama(at("wide"), wide);
  ASSERT_EQ(run(common_ + "-m wide --lora-rank 4 --lora-targets q_proj,up_proj --max-steps 1 "
                          "--name wide")
                .code,
            0);
  same_refusal(common_ + "-m base --initial-adapter runs/wide --name x", 3, "up_proj");
}

TEST_F(DryRun, OfATuning) {
  const std::string golden = std::string(source_dir) + "/tests/golden/sft/";
  in_every_folder("train_llama sft -m '" + golden + "model' --data '" + golden +
                  "rows.json' --ctx-size 256 --attn full -b 2 --grad-accum-steps 1 --output runs "
                  "--threads 1 --device cpu --warmup-steps 0 ");
}

TEST_F(DryRun, OfATic) {
  in_every_folder(
      "train_tic --data-dir cue --model tic-n --img-size 32 -b 4 --cue-count 16 --output runs "
      "--warmup-epochs 0 --threads 1 --device cpu ");
  same_refusal("train_tic --data-dir cue --model tic-n --img-size 16 -b 4 --max-steps 1 --name x",
               2, "cue task: canvas of 16x16 (--img-size), at least 32x32");
}

// What is in the weights, and what is too large for the machine; the plan is told before.
TEST_F(DryRun, ReadsTheWeightsAndCountsTheMemory) {
  LlamaConfig config = tiny_config();
  config.hidden_size = config.intermediate_size = 64;  // whole blocks
  config.head_dim = 16;
  write_tiny_llama(at("even"), config);
  ASSERT_EQ(run("tool_llama quantize -m even --type q4_0 -o even.gguf").code, 0);
  std::string bytes = contents(at("even.gguf"));
  const uint16_t nan = 0x7e00;
  {
    const GgufFile file(at("even.gguf"));
    std::memcpy(bytes.data() + file.at("blk.1.ffn_up.weight").offset, &nan, sizeof nan);
  }
  std::ofstream(at("bad.gguf"), std::ios::binary) << bytes;
  for (const std::string held : {"auto", "bf16"})
    same_refusal(common_ + "-m bad.gguf --train-also none --weights " + held + " --name x", 3,
                 "bad.gguf: ");
  const Answer planned =
      run(common_ + "-m bad.gguf --train-also none --grad-accum-steps 2 --ranks 2 --dry-run");
  EXPECT_EQ(planned.code, 0) << planned.log;  // for other machines, and other files
  config.num_hidden_layers = 2000;
  config.hidden_size = config.intermediate_size = 16384;
  write_json_file(at("huge.json"), to_json(config));
  const std::string huge =
      "train_llama pretrain --model-config huge.json --data train.bin "
      "--ctx-size 64 --device cpu --name x --max-steps 1 ";
  same_refusal(huge, 6, "memory: a step needs about");
  EXPECT_NE(run(huge + "--dry-run").log.find("plan  "), std::string::npos);
  same_refusal(
      "train_tic --data-dir cue --cue-count 40000000 --model tic-n --img-size 32 -b 40000000 "
      "--device cpu --name x --max-steps 1",
      6, "memory: a step needs about");
}

}  // namespace
}  // namespace mullion::test
