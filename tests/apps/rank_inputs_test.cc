// What the ranks of a run must have the same, and what one of them alone meets: adapters, models
// and images that differ are named, unreadable images are counted over all ranks, a warning of any
// rank is told once. And programs without ranks that a launcher starts.
#include <filesystem>
#include <fstream>

#include "tensor/io/json.h"
#include "tests/apps/rank_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

class RankInputs : public test::RankPrograms {
 protected:
  RankInputs() : RankPrograms({"train_llama", "train_tic", "eval_tic", "eval_llama", "data_tic"}) {}
  // Two ranks, each in a folder of its own, as nodes that find other files under the same names.
  // Both refuse, by words that the first says.
  void both_refuse(const std::string& command, const std::string& words) const {
    const Ranks ranks = start(2, "env -C r$R " + command);
    EXPECT_EQ(ranks.codes, (std::vector<int>{2, 2})) << ranks.logs[0] << ranks.logs[1];
    EXPECT_NE(ranks.logs[0].find(words), std::string::npos) << ranks.logs[0];
  }
  void SetUp() override {
    RankPrograms::SetUp();
    for (const char* folder : {"r0", "r1"}) fs::create_directories(at(folder));
  }
  static size_t count(const std::string& text, const std::string& word) {
    size_t n = 0;
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++n;
    return n;
  }
  // What is in the test's folder, in those of both ranks.
  void give(const std::string& name) const {
    for (const char* folder : {"r0", "r1"})
      fs::copy(at(name), at(folder) / name, fs::copy_options::recursive);
  }
  // Ten classes of ten pictures to train on and to validate by.
  void make_tree() const {
    ASSERT_EQ(run("data_tic cue --output tree --per-class 10 --img-size 32").code, 0);
  }
  const std::string tic_ =
      "train_tic --model tic-n --msa-kernel 3 --img-size 32 --output runs --threads 1 --json -b 5 "
      "--grad-accum-steps 4 --warmup-epochs 0 --workers 1 --crop-pct 1 ";
};

TEST_F(RankInputs, ModelsAdaptersAndTextsThatDifferAreNamed) {
  const std::string train =
      "train_llama pretrain --data train.bin --ctx-size 64 --output runs --threads 1 -m base -b 1 "
      "--grad-accum-steps 2 --max-steps 1 ";
  const std::string ppl = "eval_llama ppl -m base --data val.bin --ctx-size 64 --threads 1 ";
  for (const char* name : {"base", "train.bin", "val.bin"}) give(name);
  for (const char* r : {"0", "1"})
    ASSERT_EQ(run(std::string("cd r") + r + " && " + train + "--name a --seed " + r).code, 0);
  both_refuse(train + "--name x --initial-adapter runs/a", "in initial adapter: ");
  both_refuse(ppl + "--adapter runs/a", "in adapter: ");
  test::write_lexicon_tokens(at("r1/val.bin"), 6, test::kTinyContext, 2000);
  both_refuse(train + "--name x --val-data val.bin", "in validation data: ");
  both_refuse(ppl, "in data: ");
  test::write_tiny_llama(at("r1/base"), test::tiny_config(), 2);
  both_refuse(ppl, "in model: ");
}

// A place is each rank's own, by flag or file, from where it was started; what is there is not.
TEST_F(RankInputs, ATextMayHaveAnotherNameOnEachRank) {
  fs::create_directory(at("conf"));
  for (const char* r : {"0", "1"}) {
    fs::copy(at("val.bin"), at("val" + std::string(r)));
    std::ofstream(at("conf/" + std::string(r))) << "[data]\nfile = \"val" << r << "\"\n";
  }
  const std::string ppl = "eval_llama ppl -m base --ctx-size 64 --threads 1 --json ";
  const std::string one = started(1, ppl + "--data val.bin").out;
  for (const char* data : {"--data val$R", "-c conf/$R"}) {
    const Ranks two = start(2, ppl, "", data);
    EXPECT_EQ(two.codes, (std::vector<int>{0, 0})) << two.logs[0];
    EXPECT_EQ(two.out, one);
  }
  test::write_lexicon_tokens(at("val1"), 6, test::kTinyContext, 2000);
  const Ranks two = start(2, ppl, "", "--data val$R");
  EXPECT_EQ(two.codes, (std::vector<int>{2, 2})) << two.logs[0];
  EXPECT_NE(two.logs[0].find("in data: "), std::string::npos) << two.logs[0];
}

// Behind the first values of each tensor, and between the first and last tokens of a file.
TEST_F(RankInputs, OneByteAnywhereIsSeen) {
  test::write_lexicon_tokens(at("train.bin"), 3000);
  const std::string train =
      "train_llama pretrain --data train.bin --ctx-size 64 --output runs --threads 1 -m base -b 1 "
      "--grad-accum-steps 2 --max-steps 1 ";
  const std::string ppl = "eval_llama ppl -m base --data val.bin --ctx-size 64 --threads 1 ";
  ASSERT_EQ(run(train + "--name a").code, 0);
  fs::copy(at("runs/a/last/adapter"), at("pairs"));  // in the run it would have to be as saved
  for (const char* name : {"base", "train.bin", "val.bin", "pairs"}) give(name);
  started(2, "env -C r$R " + ppl + "--adapter pairs");
  // A bit of the byte so far before the end of rank 1's file; the same again restores it.
  const auto flip = [&](const std::string& file, int64_t from_end) {
    const fs::path path = at("r1") / file;
    std::fstream bytes(path, std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekg(-from_end, std::ios::end);
    const auto byte = static_cast<char>(bytes.get() ^ 1);
    bytes.seekp(-from_end, std::ios::end);
    bytes.put(byte);
    ASSERT_TRUE(bytes.good()) << path;
  };
  flip("base/model.safetensors", 4);  // of the last tensor's last value
  both_refuse(train + "--name x", "in model: ");
  both_refuse(train + "--name x --shard full --grad-checkpointing", "in model: ");
  both_refuse(ppl, "in model: ");
  flip("base/model.safetensors", 4);
  const std::string pairs = "pairs/adapter_model.safetensors";
  flip(pairs, 4);
  both_refuse(train + "--name x --initial-adapter pairs", "in initial adapter: ");
  both_refuse(ppl + "--adapter pairs", "in adapter: ");
  flip(pairs, 4);
  flip("train.bin", static_cast<int64_t>(fs::file_size(at("train.bin")) / 2));
  both_refuse(train + "--name x", "in data: ");
  // A base whose configuration alone differs.
  write_json_file(at("r1/base/config.json"), [&] {
    auto json = read_json_file(at("r1/base/config.json"));
    json["rope_theta"] = 5000.0;
    return json;
  }());
  both_refuse(ppl, "in model: ");
}

TEST_F(RankInputs, CheckpointsThatDifferAreNamed) {
  const std::string train =
      "train_llama pretrain --data train.bin --ctx-size 64 --output runs --threads 1 -m base -b 1 "
      "--grad-accum-steps 2 --lr-schedule constant_with_warmup --name a --resume auto ";
  for (const char* name : {"base", "train.bin"}) give(name);
  for (const char* r : {"0", "1"})  // nodes that have trained by themselves
    ASSERT_EQ(run(std::string("cd r") + r + " && " + train + "--max-steps 1").code, 0);
  both_refuse(train + "--max-steps 2", "in checkpoint: ");
}

TEST_F(RankInputs, ImagesThatDifferAreNamed) {
  make_tree();
  give("tree");
  const std::string train = tic_ + "--data-dir tree --max-steps 1 ";
  for (const char* r : {"0", "1"})
    ASSERT_EQ(run(std::string("cd r") + r + " && " + train + "--name a --seed " + r).code, 0);
  both_refuse(train + "--initial-checkpoint runs/a", "in initial checkpoint: ");
  both_refuse("eval_tic --data-dir tree --checkpoint runs/a", "in model: ");
  // Another picture under the same name.
  const auto others = fs::copy_options::overwrite_existing;
  fs::copy(at("tree/val/2-ring/00002.png"), at("r1/tree/val/2-ring/00003.png"), others);
  both_refuse(train, "in validation set: ");
  fs::copy(at("tree/val/2-ring/00003.png"), at("r1/tree/val/2-ring/00003.png"), others);
  fs::rename(at("r1/tree/val/2-ring/00003.png"), at("r1/tree/val/2-ring/x.png"));
  both_refuse(train, "in validation set: ");
  fs::remove_all(at("r1/runs"));
  fs::copy(at("r0/runs"), at("r1/runs"), fs::copy_options::recursive);
  both_refuse("eval_tic --data-dir tree --checkpoint runs/a", "in images: ");
  fs::rename(at("r1/tree/train/2-ring/00003.png"), at("r1/tree/train/2-ring/x.png"));
  both_refuse(train, "in training set: ");
}

TEST_F(RankInputs, UnreadableImagesAreCountedOverAllRanks) {
  make_tree();
  // One of a hundred is allowed, whichever rank meets it; its warning is told once.
  fs::resize_file(at("tree/train/2-ring/00003.png"), 60);
  Ranks ranks = start(2, tic_ + "--data-dir tree --max-steps 5 --eval-every 5 --name a");
  EXPECT_EQ(ranks.codes, (std::vector<int>{0, 0})) << ranks.logs[0] << ranks.logs[1];
  EXPECT_EQ(count(ranks.logs[0], "warning: "), 1U) << ranks.logs[0];
  EXPECT_EQ(count(ranks.logs[0], "2-ring/00003.png"), 1U) << ranks.logs[0];
  EXPECT_EQ(ranks.logs[1], "");
  // Two are more than 1 %, though each rank may have met but one of them.
  fs::resize_file(at("tree/train/0-plus/00001.png"), 60);
  ranks = start(2, tic_ + "--data-dir tree --max-steps 5 --eval-every 5 --name b");
  EXPECT_NE(ranks.logs[0].find("2 of 100 samples cannot be read"), std::string::npos)
      << ranks.logs[0];
  EXPECT_TRUE(ranks.codes[0] == 3 || ranks.codes[1] == 3);
  fs::resize_file(at("tree/val/2-ring/00003.png"), 60);
  fs::resize_file(at("tree/val/0-plus/00001.png"), 60);
  ranks = start(2, "eval_tic --data-dir tree --checkpoint runs/a -b 5 --threads 1 --json");
  EXPECT_NE(ranks.logs[0].find("2 of 100 samples cannot be read"), std::string::npos)
      << ranks.logs[0];
}

TEST_F(RankInputs, ProgramsWithoutRanksAreRefusedAtEveryOne) {
  const std::string launched = "WORLD_SIZE=2 LOCAL_WORLD_SIZE=2 MASTER_PORT=1 ";
  for (const std::string rank : {"0", "1"})
    refused(launched + "RANK=" + rank + " data_tic cue --output tree --per-class 2", 2,
            {"data_tic cue: is rank " + rank + " of 2 by RANK", "knows no ranks"});
  EXPECT_FALSE(fs::exists(at("tree")));
}

TEST_F(RankInputs, ARecordedStepIsRefused) {
  both_refuse(tic_ + "--data-dir cue --cuda-graph on --max-steps 1", "--cuda-graph on");
}

}  // namespace
}  // namespace mullion
