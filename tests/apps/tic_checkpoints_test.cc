// What a resumed training asks of its images, and a loaded model of its checkpoint's manifest.
#include <fstream>

#include "apps/run/checkpoint_manifest.h"
#include "apps/run/run_checkpoint.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/tic_programs.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class TicCheckpoints : public test::TicPrograms {
 protected:
  void exchange(const std::string& a, const std::string& b) const {
    fs::rename(at(a), at("between"));
    fs::rename(at(b), at(a));
    fs::rename(at("between"), at(b));
  }
  // A bit in the middle of a file.
  void flip(const std::string& file) const {
    std::string bytes = contents(at(file));
    bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
    std::ofstream(at(file), std::ios::binary) << bytes;
  }
  // What the manifest says, without the fields that former versions did not keep.
  void age(const std::string& checkpoint) const {
    CheckpointInfo info = read_manifest(at(checkpoint));
    std::erase_if(info.identity, [](const auto& field) { return field.first.ends_with(" set"); });
    write_whole_file(at(checkpoint) / kManifestName, manifest_text(info));
  }

  const std::string go_on_ = train_ + "--max-steps 2 --name a --resume auto ";
};

TEST_F(TicCheckpoints, OtherTrainingImagesAreNamedAtAResume) {
  result(go_on_);
  const std::vector<std::string> named = {"training set: 40 images, ", "in the checkpoint",
                                          "--allow-mismatch 'training set'"};
  result(go_on_);
  // Two classes exchanged, other pictures under the same names, one picture cut.
  exchange("tree/train/0-plus", "tree/train/1-cross");
  refused(go_on_, 2, named);
  exchange("tree/train/0-plus", "tree/train/1-cross");
  result(go_on_);
  exchange("tree/train", "tree/val");
  refused(go_on_, 2, named);
  exchange("tree/train", "tree/val");
  const std::string picture = contents(at("tree/train/2-ring/00001.png"));
  fs::resize_file(at("tree/train/2-ring/00001.png"), picture.size() - 1);
  refused(go_on_, 2, named);
  result(go_on_ + "--allow-mismatch 'training set'");
  write_whole_file(at("tree/train/2-ring/00001.png"), picture);
  // A run of a version that kept no such field goes on, and says that it cannot know.
  age("runs/a/checkpoint-000002");
  exchange("tree/train/0-plus", "tree/train/1-cross");
  const Answer older = run(go_on_);
  EXPECT_EQ(older.code, 0) << older.log;
  EXPECT_NE(older.log.find("older than the field training set"), std::string::npos) << older.log;
}

TEST_F(TicCheckpoints, TheSameImagesElsewhereAreTheSame) {
  const Answer first = run(go_on_);
  ASSERT_EQ(first.code, 0) << first.log;
  fs::rename(at("tree"), at("moved"));
  std::string moved = go_on_;
  moved.replace(moved.find("tree"), 4, "moved");
  const Answer resumed = run(moved);
  EXPECT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("data.dir is \"moved\", was \"tree\": the results are the same"),
            std::string::npos)
      << resumed.log;
  // Where the checkpoint does not say what was there, the place is all that is known.
  age("runs/a/checkpoint-000002");
  refused(moved, 2, {"data.dir: \"tree\" in the checkpoint, \"moved\" now"});
  fs::rename(at("moved"), at("tree"));
}

// They do not change what is learned, but what `best` is.
TEST_F(TicCheckpoints, OtherValidationImagesAreTold) {
  result(go_on_);
  const std::string told = "but        validation set is ";
  EXPECT_EQ(run(go_on_).log.find(told), std::string::npos);
  const fs::path ring = at("tree/val/2-ring");
  const auto expect_told = [&](const char* what) {
    const Answer resumed = run(go_on_);
    EXPECT_EQ(resumed.code, 0) << what << resumed.log;
    EXPECT_NE(resumed.log.find(told), std::string::npos) << what << resumed.log;
  };
  fs::copy(ring / "00001.png", ring / "more.png");
  expect_told("added");
  fs::remove(ring / "more.png");
  fs::rename(ring / "00001.png", ring / "x.png");
  expect_told("renamed");
  fs::rename(ring / "x.png", ring / "00001.png");
  fs::resize_file(ring / "00001.png", 300);
  expect_told("cut");
}

TEST_F(TicCheckpoints, ShardsPackedAnewAreNamedAtAResume) {
  const auto pack = [&](const char* seed) {
    fs::remove_all(at("sh"));
    result(concat("data_tic pack tree -o sh --shard-size 20kB --json --seed ", seed));
  };
  std::string shards = go_on_;
  shards.replace(shards.find("--data-dir tree"), 15, "--data-dir sh");
  pack("1");
  result(shards);
  pack("1");
  result(shards);
  pack("2");
  refused(shards, 2, {"training set: 40 images, "});
}

TEST_F(TicCheckpoints, ALoadedModelIsAsItWasSaved) {
  result(train_ + "--max-steps 2 --model-ema --name a");
  const std::string eval = "eval_tic --data-dir tree --threads 1 --json --checkpoint ",
                    weights = "runs/a/last/model.safetensors",
                    tune = train_ + "--max-steps 1 --name b --initial-checkpoint ";
  const auto before = result(eval + "runs/a");
  flip(weights);
  const std::vector<std::string> damaged = {"checkpoint-000002/model.safetensors: SHA-256 is",
                                            "COMPLETE says", "a copy of the folder"};
  refused(eval + "runs/a", 3, damaged);
  refused("tool_tic predict --checkpoint runs/a tree/val/2-ring/00001.png", 3, damaged);
  refused("tool_tic export --checkpoint runs/a -o out", 3, damaged);
  refused(tune + "runs/a/last", 3, damaged);
  EXPECT_FALSE(fs::exists(at("runs/b")));
  result(eval + "runs/a --use-ema");  // only what is read is looked at
  flip(weights);
  EXPECT_EQ(result(eval + "runs/a")["loss"], before["loss"]);
  flip("runs/a/last/model_ema.safetensors");
  refused(eval + "runs/a --use-ema", 3, {"model_ema.safetensors: SHA-256"});
  fs::resize_file(at(weights), 100000);
  refused(eval + "runs/a", 3, {"model.safetensors: 100000 bytes, COMPLETE says"});
}

// As the hub's cache keeps them; beside markers of others; and what stands below a checkpoint.
TEST_F(TicCheckpoints, FilesMayBeLinksAndOthersMarkersSayNothing) {
  result(train_ + "--max-steps 2 --name a");
  const std::string eval = "eval_tic --data-dir tree --threads 1 --json --checkpoint ";
  const auto loss = result(eval + "runs/a")["loss"];
  fs::create_directory(at("linked"));
  for (const auto& entry : fs::directory_iterator(at("runs/a/last")))
    fs::create_symlink(entry.path(), at("linked") / entry.path().filename());
  EXPECT_EQ(result(eval + "linked")["loss"], loss);
  flip("runs/a/last/model.safetensors");
  refused(eval + "linked", 3, {"linked/model.safetensors: SHA-256"});
  flip("runs/a/last/model.safetensors");

  result("tool_tic export --checkpoint runs/a --format torch -o runs/a/last/hub --json");
  EXPECT_EQ(result(eval + "runs/a/last/hub")["loss"], loss);
  fs::create_directory(at("models"));
  fs::copy(at("runs/a/last/hub"), at("models/hub"), fs::copy_options::recursive);
  write_whole_file(at("models/COMPLETE"), "");
  EXPECT_EQ(run(eval + "models/hub").log.find("COMPLETE"), std::string::npos);
  write_whole_file(at("models/hub/COMPLETE"), "");
  const Answer marked = run(eval + "models/hub");
  EXPECT_EQ(marked.code, 0) << marked.log;
  EXPECT_NE(marked.log.find("models/hub/COMPLETE: is no manifest"), std::string::npos);
  // Half a manifest is one.
  fs::copy(at("runs/a/checkpoint-000002"), at("cut"));
  fs::resize_file(at("cut/COMPLETE"), 100);
  refused(eval + "cut", 3, {"cut/COMPLETE"});
}

TEST_F(TicCheckpoints, AConfigurationIsEditedInACopyWithoutTheManifest) {
  result(train_ + "--max-steps 1 --name a");
  const std::string eval = "eval_tic --data-dir tree --threads 1 --json --checkpoint ";
  fs::copy(at("runs/a/checkpoint-000001"), at("ck"));
  auto config = nlohmann::json::parse(contents(at("ck/config.json")));
  config["pretrained_cfg"]["crop_pct"] = 0.5;
  write_whole_file(at("ck/config.json"), config.dump());
  refused(eval + "ck", 3, {"ck/config.json: ", "COMPLETE says", "without COMPLETE"});
  fs::remove(at("ck/COMPLETE"));
  EXPECT_NE(result(eval + "ck")["loss"], result(eval + "runs/a")["loss"]);
  // Under its name in a run it is a checkpoint that was not finished.
  fs::remove(at("runs/a/checkpoint-000001/COMPLETE"));
  for (const char* place : {"runs/a", "runs/a/last", "runs/a/checkpoint-000001"})
    refused(eval + place, 3, {"checkpoint-000001: has no COMPLETE", "not whole"});
}

// What a resumed run needs is in its checkpoint.
TEST_F(TicCheckpoints, AResumedRunNeedsNoInitialCheckpoint) {
  result(train_ + "--max-steps 1 --shift off --name a");
  std::string tune =
      "train_tic --data-dir tree -b 8 --img-size 32 --output runs --threads 1 "
      "--warmup-epochs 0 --json --max-steps 4 --save-every 2 --initial-checkpoint "
      "runs/a/last ";
  result(tune + "--name whole");
  result(tune + "--name cut");
  fs::remove_all(at("runs/cut/checkpoint-000004"));
  fs::remove_all(at("runs/a"));
  refused(tune + "--name c", 3, {"runs/a/last"});
  const Answer resumed = run("train_tic --threads 1 --json --resume runs/cut");
  ASSERT_EQ(resumed.code, 0) << resumed.log;
  EXPECT_NE(resumed.log.find("resumed at step 2"), std::string::npos) << resumed.log;
  EXPECT_NE(resumed.log.find("began from is gone"), std::string::npos) << resumed.log;
  same_runs("runs/whole", "runs/cut",
            {"last/model.safetensors", "last/optimizer.safetensors", "last/config.json"});
  result(tune + "--name cut --resume auto");
}

}  // namespace
}  // namespace mullion
