// The LLaMA programs on the emulated device, as a user calls them: what they compute there is what
// they compute on the CPU, and a checkpoint does not know where it was made.
#include "tensor/io/json.h"
#include "tests/apps/tiny_llama.h"
#include "tests/simt/apps/device_programs.h"

namespace mullion {
namespace {

using test::kF32;
using test::kTinyContext;

class LlamaOnDevice : public test::DevicePrograms {
 protected:
  LlamaOnDevice() : DevicePrograms({"train_llama", "eval_llama", "chat_llama"}) {}
  void SetUp() override {
    DevicePrograms::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    test::write_lexicon_tokens(at("train.bin"), 16);
    test::write_lexicon_tokens(at("val.bin"), 4, kTinyContext, 1000);
  }
  void train(const std::string& name, const std::string& device, const std::string& options) const {
    trains(common_ + options + " --name " + name, device);
  }
  nlohmann::json perplexity(const std::string& model, const std::string& device) const {
    return result("eval_llama ppl --data val.bin --ctx-size 32,64 --stride 64 -b 2 --threads 1 " +
                  model + " --json --device " + device);
  }
  // The perplexities of a model on both devices, at both lengths.
  void expect_the_same_perplexities(const std::string& model, double relative = kF32) const {
    const auto cuda = perplexity(model, "cuda"), cpu = perplexity(model, "cpu");
    ASSERT_EQ(cuda["results"].size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(cuda["results"][i]["tokens"], cpu["results"][i]["tokens"]);
      expect_near(cuda["results"][i]["nll"], cpu["results"][i]["nll"], relative, model);
    }
  }
  nlohmann::json text(const std::string& model, const std::string& device) const {
    return result("chat_llama complete -p 'ba=KO de=' -n 12 --ignore-eos --threads 1 " + model +
                  " --json --device " + device);
  }

  const std::string common_ =
      "train_llama pretrain --data train.bin --val-data val.bin --ctx-size 64 -b 2 "
      "--grad-accum-steps 1 --max-steps 3 --output runs --warmup-steps 0 --lr 3e-3 --threads 1 "
      "--json ";
  const std::string lora_ = "-m base --lora-rank 4 --attn sf ";
};

TEST_F(LlamaOnDevice, PretrainsAsOnTheCpu) {
  for (const char* device : {"cpu", "cuda"})
    train(device, device, "--model-config base/config.json --attn full --grad-accum-steps 2");
  expect_the_same_run("runs/cuda", "runs/cpu");
  expect_the_same_perplexities("-m runs/cuda/last/model");
  const auto cuda = text("-m runs/cuda/last/model", "cuda");
  EXPECT_EQ(cuda["tokens"], 12);
  EXPECT_EQ(cuda["ids"], text("-m runs/cuda/last/model", "cpu")["ids"]);
}

TEST_F(LlamaOnDevice, AdaptersTrainUnderSfAttentionAsOnTheCpu) {
  for (const char* device : {"cpu", "cuda"}) train(device, device, lora_);
  expect_the_same_run("runs/cuda", "runs/cpu");
  // Made on one device, it means the same on the other.
  const std::string adapter = "-m base --adapter runs/cuda";
  expect_the_same_perplexities(adapter);
  const auto cuda = text(adapter, "cuda");
  EXPECT_EQ(cuda["ids"], text(adapter, "cpu")["ids"]);
  EXPECT_EQ(cuda["text"], text("-m base --adapter runs/cpu", "cpu")["text"]);
  EXPECT_NE(cuda["ids"], text("-m base", "cuda")["ids"]);
}

TEST_F(LlamaOnDevice, AResumedRunGoesOnToTheSameBits) {
  const std::string options = lora_ + "--save-every 2 --eval-every 2 ";
  train("whole", "cuda", options + "--max-steps 4");
  train("cut", "cuda", options + "--max-steps 2");
  train("cut", "cuda", options + "--max-steps 4 --resume auto");
  same_runs("runs/whole", "runs/cut",
            {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors",
             "last/trainer_state.json"});
  // And on the other device: the losses of the steps made there are the same.
  train("moved", "cuda", options + "--max-steps 2");
  train("moved", "cpu", options + "--max-steps 4 --resume auto");
  expect_the_same_run("runs/moved", "runs/whole");
}

TEST_F(LlamaOnDevice, RecordedStepsGiveTheSameBits) {
  const std::string options = lora_ +
                              "--max-steps 6 --save-every 4 --eval-every 2 --grad-accum-steps 2 "
                              "--warmup-steps 3 --lr-schedule cosine --train-also embed,norm ";
  train("launched", "cuda", options + "--cuda-graph off");
  train("recorded", "cuda", options + "--cuda-graph on");
  same_runs("runs/launched", "runs/recorded",
            {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors"});
  EXPECT_FALSE(records("runs/launched"));
  EXPECT_TRUE(records("runs/recorded"));
}

// Whoever reads before the stream has come so far, or frees too early, finds other numbers; so does
// whoever depends on the order of threads.
TEST_F(LlamaOnDevice, LateStreamsAndAnyOrderGiveTheSameBits) {
  const std::string run_of = common_ + lora_ + "--save-every 2 --eval-every 2 ";
  trains(run_of + "--name eager", "cuda");
  trains("MULLION_SIMT_STREAMS=late MULLION_SIMT_ORDER=random:5 " + run_of + "--name late", "cuda");
  same_runs("runs/eager", "runs/late",
            {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors"});
}

// An activation in bf16 is off by 2^-8 at most, and a dozen of them lie on the way to a logit; each
// token's loss then errs by about 1 % of the spread of its logits, to either side, and the mean
// over 126 tokens by a tenth of that.
constexpr double kBf16 = 2e-3;

TEST_F(LlamaOnDevice, InBf16TheLossesStayClose) {
  train("f32", "cpu", lora_);
  train("bf16", "cuda", lora_ + "--amp bf16");
  const double distance = loss_distance("runs/bf16", "runs/f32");
  EXPECT_LT(distance, kBf16);
  EXPECT_GT(distance, kF32) << "it was not computed in bf16";
  expect_the_same_perplexities("-m base --adapter runs/bf16 --dtype bf16", kBf16);
}

}  // namespace
}  // namespace mullion
