// Runs on a disk that is full or becomes so, and in a folder that another run holds. Filling a disk
// takes a small file system in memory, which only some users may mount.
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/apps/tiny_llama.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;

class Disk : public test::Programs {
 protected:
  Disk() : Programs({"train_llama", "data_llama", "eval_llama"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    test::write_tiny_llama(at("base"));
    test::write_lexicon_tokens(at("t.bin"), 24);
    fs::create_directories(at("disk"));
  }
  // Runs a command where disk/ has so many KiB; what it wrote there is gone afterwards.
  Answer with_disk(int kib, const std::string& command) const {
    return run("unshare -m sh -c 'mount -t tmpfs -o size=" + std::to_string(kib) +
               "k none disk || exit 98; " + command + "'");
  }
  bool may_mount() const { return with_disk(64, "true").code == 0; }

  const std::string train_ =
      "train_llama pretrain -m base --data t.bin --ctx-size 64 --lora-rank 4 --grad-accum-steps 1 "
      "--threads 1 --output disk --json ";
};

TEST_F(Disk, TooSmallForTheCheckpointsIsToldBeforeTheFirstStep) {
  if (!may_mount()) GTEST_SKIP() << "no file system can be mounted here";
  const Answer answer = with_disk(512, train_ +
                                           "--max-steps 5 --name a; code=$?; "
                                           "ls disk/a/checkpoint-* 2>/dev/null; exit $code");
  EXPECT_EQ(answer.code, 4) << answer.log;
  EXPECT_NE(answer.log.find("disk/a: 3 checkpoints of "), std::string::npos) << answer.log;
  EXPECT_NE(answer.log.find("--keep"), std::string::npos) << answer.log;
  EXPECT_EQ(answer.json()["exit_code"], 4);
}

TEST_F(Disk, OneThatFillsUpCostsNoCheckpoint) {
  if (!may_mount()) GTEST_SKIP() << "no file system can be mounted here";
  // A stranger fills the disk after the first save. Three saves fail, and the run ends; with room
  // again it goes on from what it has.
  const std::string run_on = train_ + "--max-steps 400 --save-every 4 --name a --resume auto ";
  const Answer answer =
      with_disk(8192, run_on +
                          "2>first & p=$!; "
                          "while [ ! -e disk/a/checkpoint-000004/COMPLETE ]; do sleep 0.002; done; "
                          "dd if=/dev/zero of=disk/stranger bs=64k 2>/dev/null; wait $p; "
                          "echo \"code $?\" >code; ls -a disk/a >left; rm disk/stranger; " +
                          run_on);
  EXPECT_EQ(answer.code, 0) << answer.log;
  EXPECT_EQ(answer.json()["steps"], 400);
  const std::string log = test::contents(at("first"));
  EXPECT_EQ(test::contents(at("code")), "code 4\n") << log;
  EXPECT_NE(log.find("is not saved"), std::string::npos) << log;
  EXPECT_NE(log.find("No space left"), std::string::npos) << log;
  EXPECT_NE(log.find("3 saves in a row have failed"), std::string::npos) << log;
  const std::string left = test::contents(at("left"));
  EXPECT_EQ(left.find(".tmp-"), std::string::npos) << left;
  EXPECT_NE(answer.log.find("resumed at step "), std::string::npos) << answer.log;
}

TEST_F(Disk, OutputsOfOtherProgramsAppearWholeOrNotAtAll) {
  if (!may_mount()) GTEST_SKIP() << "no file system can be mounted here";
  const auto fails = [&](const std::string& command) {
    const Answer answer = with_disk(16, command + "; code=$?; ls disk >left; exit $code");
    EXPECT_EQ(answer.code, 4) << command << answer.log;
    EXPECT_NE(answer.log.find("disk/"), std::string::npos) << answer.log;
    EXPECT_EQ(test::contents(at("left")), "") << command;
  };
  fails("data_llama lexicon --rows 1000 --length 128 --output disk/x.bin");
}

// A full training's checkpoint is a model with its tokenizer; the room ends in the tokenizer's
// files.
TEST_F(Disk, ATokenizerThatDoesNotFitIsADisksFault) {
  if (!may_mount()) GTEST_SKIP() << "no file system can be mounted here";
  ASSERT_EQ(run(train_ + "--max-steps 1 --name a").code, 0);
  write_whole_file(at("base/chat_template.jinja"), std::string(3 << 20, ' '));
  fs::rename(at("disk/a"), at("a"));
  const Answer answer =
      with_disk(2048, "tool_llama merge -m base --adapter a --output disk/merged --json");
  EXPECT_EQ(answer.code, 4) << answer.log;
  EXPECT_NE(answer.log.find("chat_template.jinja"), std::string::npos) << answer.log;
}

TEST_F(Disk, FoldersThatCannotBeWrittenAreNamed) {
  fs::create_directories(at("file"));
  refused("train_llama pretrain -m base --data t.bin --ctx-size 64 --output t.bin/x --name a", 4,
          {"t.bin/x/a"});
  refused("data_llama lexicon --rows 2 --output none/x.bin", 4, {"none/x.bin"});
}

TEST_F(Disk, AResultThatCannotBePrintedIsAnError) {
  if (!fs::exists("/dev/full")) GTEST_SKIP() << "needs /dev/full";
  for (const std::string& command :
       {std::string("data_llama info t.bin"), std::string("data_llama info t.bin --json"),
        std::string("eval_llama ppl -m base --data t.bin --ctx-size 64 --max-windows 1")})
    refused(command + " >/dev/full", 4, {"stdout", "No space left"});
}

TEST_F(Disk, ARunsFolderBelongsToOneProcess) {
  const Answer answer =
      run(train_ +
          "--max-steps 100000 --name a >first & p=$!; "
          "while [ ! -e disk/a/metrics.jsonl ]; do sleep 0.005; done; " +
          train_ +
          "--max-steps 5 --name a --resume auto 2>second; code=$?; kill -TERM $p; wait $p; "
          "echo $? >holder; exit $code");
  EXPECT_EQ(answer.code, 2) << answer.log;
  const std::string log = test::contents(at("second"));
  EXPECT_NE(log.find("disk/a: in use by process "), std::string::npos) << log;
  EXPECT_NE(log.find("--name"), std::string::npos) << log;
  EXPECT_EQ(test::contents(at("holder")), "75\n");  // undisturbed
}

}  // namespace
}  // namespace mullion
