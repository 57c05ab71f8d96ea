// What the programs say, and what stands on the disk, when the device is not there, is too small
// for a step, or dies on the way. The emulator is told what to have and when to fail by its
// environment (tensor/simt/fault_plan.h).
#include <regex>

#include "tests/apps/tiny_llama.h"
#include "tests/simt/apps/device_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;

class DeviceFaults : public test::DevicePrograms {
 protected:
  DeviceFaults() : DevicePrograms({"train_llama", "eval_llama", "chat_llama", "train_tic"}) {}
  void SetUp() override {
    DevicePrograms::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    test::write_lexicon_tokens(at("t.bin"), 24);
  }
  // Trains eight steps, of which one from the third on fails, and goes on: the bits are those of
  // the run that nothing disturbed. Returns what was said.
  std::string survives(const std::string& name, const std::string& fault,
                       const std::string& graph = "--cuda-graph off ") const {
    trains(train_ + "--name whole", "cuda");
    const Answer cut = run(fault + " " + train_ + graph + "--device cuda --name " + name);
    EXPECT_EQ(cut.code, 6) << cut.log;
    EXPECT_EQ(cut.json()["exit_code"], 6);
    std::smatch found;
    EXPECT_TRUE(std::regex_search(cut.log, found, std::regex("error: step ([0-9]+): "))) << cut.log;
    const int failed = found.empty() ? 0 : std::stoi(found[1]);
    EXPECT_GT(failed, 2) << cut.log;
    char kept[32];
    std::snprintf(kept, sizeof kept, "checkpoint-%06d", (failed - 1) / 2 * 2);
    EXPECT_TRUE(fs::exists(at("runs/" + name) / kept / "COMPLETE")) << kept;
    trains(train_ + "--resume auto --name " + name, "cuda");
    same_runs("runs/whole", "runs/" + name,
              {"last/adapter/adapter_model.safetensors", "last/optimizer.safetensors"});
    return cut.log;
  }

  const std::string train_ =
      "train_llama pretrain -m base --data t.bin --ctx-size 64 --lora-rank 4 --attn sf -b 2 "
      "--grad-accum-steps 1 --max-steps 8 --save-every 2 --output runs --threads 1 --json ";
};

TEST_F(DeviceFaults, ADeviceThatIsNotThereIsToldBeforeAnyWork) {
  const std::string cuda = train_ + "--device cuda ";
  refused("MULLION_SIMT_DEVICE=devices=0 " + cuda, 2,
          {"--device cuda: no CUDA device: the machine shows none", "try: --device auto"});
  refused("MULLION_SIMT_DEVICE=driver=0,devices=0 " + cuda, 2, {"no NVIDIA driver is installed"});
  refused("MULLION_SIMT_DEVICE=driver=12020 " + cuda, 2,
          {"the driver is for CUDA 12.2, this build needs 13.0"});
  refused("MULLION_SIMT_DEVICE=capability=7.5 " + cuda, 2,
          {"device 0, emulated device, has compute capability 7.5; this build has machine code"});
  for (const std::string& program :
       {train_, std::string("eval_llama ppl -m base --data t.bin --ctx-size 64 "),
        std::string("chat_llama complete -m base -p ba "),
        std::string("train_tic --data-dir cue --model tic-n --output runs ")})
    refused(program + "--device cuda:7", 2, {"--device cuda:7", "there is 1, index 7"});
  EXPECT_FALSE(fs::exists(at("runs")));
  // auto takes the CPU instead and says so.
  const Answer answer = run("MULLION_SIMT_DEVICE=capability=7.5 " + train_ + "--max-steps 1");
  EXPECT_EQ(answer.code, 0);
  EXPECT_NE(answer.log.find("device     cpu, 1 threads"), std::string::npos) << answer.log;
}

TEST_F(DeviceFaults, MemoryThatRunsOutInAStepLosesNoCheckpoint) {
  const std::string said = survives("cut", "MULLION_SIMT_FAULT=cudaMallocAsync:600+:2");
  for (const char* words :
       {"a tensor of shape [", ", f32: out of memory on cuda:0: ", " bytes were asked for while ",
        " were in use", "try: a smaller --batch-size", "--resume auto goes on"})
    EXPECT_NE(said.find(words), std::string::npos) << words << "\n" << said;
}

TEST_F(DeviceFaults, TheAdviceForTooLittleMemoryHelps) {
  const std::string train = train_ + "--max-steps 2 --device cuda ";
  const std::string large = "-b 8 ", small = "-b 2 --grad-accum-steps 4 ";
  ASSERT_EQ(run(train + large + "--name large").code, 0);
  ASSERT_EQ(run(train + small + "--name small").code, 0);
  const auto peak = [&](const std::string& name) {
    const std::string lines = test::contents(at("runs/" + name + "/metrics.jsonl"));
    return nlohmann::json::parse(lines.substr(0, lines.find('\n')))["mem_gib"].get<double>();
  };
  const double between = (peak("large") + peak("small")) / 2 * 0x1p30;
  const std::string less =
      "MULLION_SIMT_DEVICE=memory=" + std::to_string(static_cast<int64_t>(between)) + " ";
  refused(less + train + large + "--name refused", 6,
          {"step 1: ", "out of memory on cuda:0", "a smaller --batch-size with more --grad-accum"});
  ASSERT_EQ(run(less + train + small + "--name fits").code, 0);
  expect_the_same_run("runs/fits", "runs/large");
}

TEST_F(DeviceFaults, ADeviceThatDiesIsToldWithItsLastKernels) {
  const std::string said = survives("cut", "MULLION_SIMT_FAULT=any:2700+:700");
  for (const char* words :
       {"an illegal memory access was encountered (cudaErrorIllegalAddress) at ",
        "; launched last: ", "try: MULLION_CUDA_SYNC=1 names the kernel"})
    EXPECT_NE(said.find(words), std::string::npos) << words << "\n" << said;
}

TEST_F(DeviceFaults, ADeviceThatDiesInARecordedStepIsTold) {
  const std::string said =
      survives("cut", "MULLION_SIMT_FAULT=cudaGraphLaunch:3+:700", "--cuda-graph on ");
  for (const char* words :
       {"a step is recorded as a graph of", "error: step 5: ",
        "an illegal memory access was encountered (cudaErrorIllegalAddress) at cudaGraphLaunch"})
    EXPECT_NE(said.find(words), std::string::npos) << words << "\n" << said;
}

TEST_F(DeviceFaults, TheKernelThatFailedIsNamedOnRequest) {
  const std::string said =
      survives("cut", "MULLION_CUDA_SYNC=1 MULLION_SIMT_FAULT=cudaStreamSynchronize:700+:700");
  EXPECT_TRUE(
      std::regex_search(said, std::regex("step [0-9]+: (backward of [a-z_]+: )*([a-z_0-9]+: "
                                         ")?cuda: kernel [a-z_0-9]+ could not be "
                                         "run: an illegal memory access")))
      << said;
}

}  // namespace
}  // namespace mullion
