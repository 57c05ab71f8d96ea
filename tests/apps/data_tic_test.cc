// data_tic on a miniature of ImageNet's archives: prepared, checked, packed, trained on and
// evaluated; runs that are killed or meet a full disk end in the same bytes; lists and archives
// that are wrong are named.
#include <cerrno>
#include <map>
#include <regex>

#include "apps/tic/pack.h"
#include "data/png.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/file_ops.h"
#include "tests/apps/programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class DataTic : public test::Programs {
 protected:
  DataTic() : Programs({"train_tic", "eval_tic", "data_tic", "tool_tic"}) {}
  void SetUp() override {
    Programs::SetUp();
    if (IsSkipped()) return;
    for (const auto& entry :
         fs::directory_iterator(fs::path(test::source_dir) / "tests/real/imagenet"))
      fs::copy_file(entry.path(), at(entry.path().filename().string()));
  }
  std::string prepare(const std::string& labels, const std::string& to = "in") const {
    return "data_tic prepare --train train.tar --val val.tar -o " + to + " --val-labels " + labels +
           " --json ";
  }
  // All files below a folder with their bytes.
  std::map<std::string, std::string> tree(const std::string& name) const {
    std::map<std::string, std::string> files;
    for (const auto& entry : fs::recursive_directory_iterator(at(name)))
      if (entry.is_regular_file())
        files[entry.path().lexically_relative(at(name)).string()] = std::regex_replace(
            contents(entry.path()), std::regex("\"shard_modified\": [0-9]+"), "");
    return files;
  }
};

TEST_F(DataTic, FromTheArchivesToAResult) {
  const auto prepared = result(prepare("val_wnids.txt"));
  EXPECT_EQ(prepared["classes"], 3);
  EXPECT_EQ(prepared["train_images"], 18);
  EXPECT_EQ(prepared["val_images"], 6);
  EXPECT_EQ(contents(at("in/train/n02105855/n02105855_20.JPEG")).substr(1, 3), "PNG");
  EXPECT_TRUE(fs::exists(at("in/val/n02105855/ILSVRC2012_val_00000001.JPEG")));
  const auto files = tree("in");
  EXPECT_EQ(run(prepare("val_wnids.txt")).code, 0);  // once more: compared with the archives
  EXPECT_EQ(tree("in"), files);

  const Answer checked = run("data_tic check in --json --list bad.txt");
  EXPECT_EQ(checked.code, 3) << checked.log;
  const auto train = checked.json()["train"];
  EXPECT_EQ(train["images"], 18);
  EXPECT_EQ(train["png"], 1);
  EXPECT_EQ(train["png_under_another_name"], 1);
  EXPECT_EQ(train["cmyk"], 1);
  EXPECT_EQ(train["grey"], 2);
  EXPECT_EQ(train["turned_by_exif"], 1);
  EXPECT_EQ(train["unreadable"], 1);
  EXPECT_NE(contents(at("bad.txt")).find("n01443537_54.JPEG"), std::string::npos);

  const auto packed = result("data_tic pack in -o sh --shard-size 20kB --json");
  EXPECT_EQ(packed["images"], 24);
  EXPECT_GT(packed["shards"], 3);
  const auto seen = run("data_tic check sh --json").json();
  for (const char* key : {"images", "png", "cmyk", "grey", "turned_by_exif", "unreadable"})
    EXPECT_EQ(seen["train"][key], train[key]) << key;
  EXPECT_EQ(result("data_tic stats sh --json")["images"], 17);

  const std::string options =
      " --model tic-n --msa-kernel 3 -b 4 --img-size 32 --output runs --warmup-epochs 0 --lr 1e-3 "
      "--threads 1 --json --aa rand-m9-mstd0.5-inc1 --mixup 0.8 --reprob 0.25 --aug-repeats 3 ";
  const std::string shards = "train_tic --data-dir sh --save-every 2 --max-steps 9" + options;
  const Answer whole = run(shards + "--name whole -j 1 --dataset-preview 4");
  ASSERT_EQ(whole.code, 0) << whole.log;
  EXPECT_NE(whole.log.find("shards, 18 images of 3 classes"), std::string::npos) << whole.log;
  EXPECT_TRUE(fs::exists(at("runs/whole/preview.png")));
  const Answer cut =
      stop(shards + "--name cut -j 3", "runs/cut/checkpoint-000002/COMPLETE", "KILL");
  ASSERT_TRUE(cut.code == 137 || cut.code == 0) << cut.log;
  EXPECT_EQ(run(shards + "--name cut -j 0 --resume auto").code, 0);
  same_runs("runs/whole", "runs/cut", {"last/model.safetensors", "last/optimizer.safetensors"});
  // Folders and shards are the same images.
  const auto there = result("eval_tic --data-dir sh --checkpoint runs/whole --json");
  const auto here = result("eval_tic --data-dir in --checkpoint runs/whole --json");
  EXPECT_EQ(there["count"], 6);
  for (const char* key : {"top1", "top5", "loss"}) EXPECT_EQ(there[key], here[key]) << key;
}

// The commands of docs/imagenet.md, on the miniature.
TEST_F(DataTic, ThePagesCommandsGoFromTheArchivesToATable) {
  run("mkdir a && cp train.tar a/ILSVRC2012_img_train.tar && cp val.tar a/ILSVRC2012_img_val.tar "
      "&& cp devkit.tar.gz a/ILSVRC2012_devkit_t12.tar.gz");
  const std::string call =
      "BIN='" + program("").string() +
      "' FLAGS='--model tic-n --msa-kernel 3 --patch-size 8 -b 4 --grad-accum-steps 1 --img-size "
      "32 --max-steps 2 --warmup-epochs 0 --workers 1' " +
      (fs::path(test::source_dir) / "tools/imagenet.sh").string() + " a";
  const Answer done = run(call);
  if (done.log.find("no zlib") != std::string::npos) GTEST_SKIP() << "built without zlib";
  ASSERT_EQ(done.code, 0) << done.log;
  EXPECT_NE(contents(at("a/unreadable.txt")).find("n01443537_54.JPEG"), std::string::npos);
  const std::string table = contents(at("a/table.md"));
  EXPECT_EQ(table.find("| model | img_size | top1 |"), 0u) << table;
  EXPECT_NE(table.find("| tic-n | 288 | "), std::string::npos) << table;
  EXPECT_TRUE(fs::exists(at("a/tic-t.onnx")));
}

TEST_F(DataTic, AllListsOfLabelsMeanTheSameAndWrongOnesAreNamed) {
  result(prepare("val_wnids.txt"));
  const auto files = tree("in/val");
  result(prepare("ground_truth.txt --class-map map_clsloc.txt", "a"));
  result(prepare("LOC_val_solution.csv", "b"));
  result(prepare("places.txt", "c"));
  for (const char* other : {"a/val", "b/val", "c/val"}) EXPECT_EQ(tree(other), files);
  // Kaggle's folders.
  result(
      "mkdir flat && cp in/val/*/* flat && data_tic prepare --train in/train --val flat -o d "
      "--val-labels LOC_val_solution.csv --json");
  EXPECT_EQ(tree("d/val"), files);

  // The devkit, packed as it comes; and one that is cut.
  const std::string by_devkit = "data_tic prepare --train train.tar --val val.tar --json --devkit ";
  const Answer devkit = run(by_devkit + "devkit.tar.gz -o k");
  if (devkit.log.find("no zlib") == std::string::npos) {
    EXPECT_EQ(devkit.code, 0) << devkit.log;
    EXPECT_EQ(tree("k/val"), files);
    run("head -c 300 devkit.tar.gz > cut.tar.gz");
    refused(by_devkit + "cut.tar.gz -o e", 3, {"cut.tar.gz", "cut or damaged"});
    refused(by_devkit + "train.tar -o e", 3, {"train.tar", "cut or damaged"});
    refused(by_devkit + "devkit.tar.gz --val-labels places.txt -o e", 2, {"--devkit"});
  }

  refused(prepare("ground_truth.txt", "e"), 3,
          {"ground_truth.txt", "ILSVRC's own ids", "--class-map"});
  // Read before anything is unpacked.
  EXPECT_FALSE(fs::exists(at("e")));
  refused(prepare("places.txt --class-map map_clsloc.txt", "e"), 2,
          {"--class-map", "has no effect", "places.txt", "from 0"});
  refused(prepare("val_wnids.txt --class-map map_clsloc.txt", "e"), 2,
          {"--class-map", "val_wnids.txt", "WordNet"});
  EXPECT_FALSE(fs::exists(at("e")));
  refused(prepare("val_other_class.txt", "e"), 3, {"val_other_class.txt", "n15075141"});
  refused(prepare("val_missing_class.txt", "e"), 3,
          {"1 classes without a validation image", "n02105855"});
  refused(prepare("train.tar", "e"), 3, {"train.tar:1", "neither"});
  refused("data_tic prepare --train val.tar --val train.tar -o e --val-labels val_wnids.txt", 3,
          {"val.tar/ILSVRC2012_val_00000001.JPEG", "exchanged"});
  refused("data_tic prepare --train train.tar --val train.tar -o f --val-labels val_wnids.txt", 3,
          {"train.tar/n01440764.tar", "exchanged"});
  refused("data_tic prepare --train train.tar --val val_short.tar -o g --val-labels val_wnids.txt",
          3, {"val_short.tar", "image 6 of 6 is missing"});
  run("head -c 20000 train.tar > cut.tar");
  refused("data_tic prepare --train cut.tar --val val.tar -o h --val-labels val_wnids.txt", 3,
          {"cut.tar", "cut"});
  for (const char* folder : {"e", "f", "g", "h"}) EXPECT_FALSE(fs::exists(at(folder) / "val"));
  EXPECT_FALSE(fs::exists(at("h/train")));
  write_whole_file(at("in/train/n01440764/n01440764_3.JPEG"), "changed");
  refused(prepare("val_wnids.txt"), 3, {"n01440764_3.JPEG", "is not what the archive holds"});
}

TEST_F(DataTic, KilledRunsEndInTheSameBytes) {
  result(prepare("val_wnids.txt"));
  result("data_tic pack in -o sh --shard-size 10kB --json");
  const auto files = tree("in"), shards = tree("sh");
  int killed = 0;
  for (const char* moment : {"cut/.train.partial", "cut/.train.partial/n01443537",
                             "cut/.val.partial/n01440764", "cut/train"}) {
    fs::remove_all(at("cut"));
    killed += stop(prepare("val_wnids.txt", "cut"), moment, "KILL").code == 137;
    result(prepare("val_wnids.txt", "cut"));
    EXPECT_EQ(tree("cut"), files) << moment;
  }
  for (const char* moment : {"shc/_pack.json", "shc/.train-000000.tar.partial",
                             "shc/train-000001.tar.idx", "shc/val-000000.tar"}) {
    fs::remove_all(at("shc"));
    killed += stop("data_tic pack in -o shc --shard-size 10kB", moment, "KILL").code == 137;
    result("data_tic pack in -o shc --shard-size 10kB --json");
    EXPECT_EQ(tree("shc"), shards) << moment;
  }
  // A fast machine may be through before a signal comes; a limit of a file's size comes in time.
  for (const char* blocks : {"1", "4", "12"}) {
    fs::remove_all(at("shc"));
    const std::string pack = "data_tic pack in -o shc --shard-size 10kB";
    killed += run(concat("ulimit -f ", blocks, "; ", pack)).code != 0;
    result(pack + " --json");
    EXPECT_EQ(tree("shc"), shards) << blocks;
  }
  EXPECT_GT(killed, 0);
}

// The disk is full at the n-th write: an error of the disk, no shard that is not whole, and the
// next run ends in the same bytes.
TEST_F(DataTic, AFullDiskLeavesNothingHalfWritten) {
  result(prepare("val_wnids.txt"));
  PackOptions options;
  options.shard_bytes = 10000;
  pack_images(at("in"), at("sh"), options);
  const auto shards = tree("sh");
  int failed = 0;
  for (const int full : {1, 2, 7, 40, 90}) {
    fs::remove_all(at("full"));
    int writes = 0;
    set_file_hook([&](const FileOp& op) {
      return std::string_view(op.name) == "write" && ++writes >= full ? ENOSPC : 0;
    });
    try {
      pack_images(at("in"), at("full"), options);
    } catch (const Error& error) {
      EXPECT_EQ(error.fault(), Fault::disk) << error.what();
      ++failed;
    }
    set_file_hook({});
    for (const auto& [name, bytes] : tree("full"))
      EXPECT_TRUE(name == ".lock" || shards.at(name) == bytes) << full << " " << name;
    pack_images(at("in"), at("full"), options);
    EXPECT_EQ(tree("full"), shards) << full;
  }
  EXPECT_EQ(failed, 5);
}

TEST_F(DataTic, FoldersInUseOrOfOtherWorkAreRefused) {
  result(prepare("val_wnids.txt"));
  const std::string pack = "data_tic pack in -o sh --shard-size 10kB ";
  result(pack + "--json");
  refused(pack + "--seed 7", 2, {"sh", "other options"});
  refused(pack + "--resize-short 20", 2, {"sh", "other options"});
  refused("data_tic pack in -o in", 2, {"in", "whose images are packed"});
  refused("flock sh/.lock " + pack, 4, {"sh", "another process"});
  refused("mkdir -p p; touch p/.lock; flock p/.lock " + prepare("val_wnids.txt", "p"), 4,
          {"p", "another process"});
  refused(pack + "--shard-size 12", 2, {"--shard-size", "12", "1GB"});
  refused("data_tic pack in -o in/train/shards", 2, {"in/train/shards", "is in in/train"});
  EXPECT_FALSE(fs::exists(at("in/train/shards")));
  // Shards that _info.json does not know, and numbers that are not theirs.
  run("cp sh/train-000000.tar sh/more-000000.tar");
  refused("data_tic check sh", 3, {"more-000000.tar", "_info.json does not list"});
  run("rm sh/more-000000.tar; sed -i 's/\"num_samples\": 18/\"num_samples\": 19/' sh/_info.json");
  refused("data_tic check sh", 3, {"_info.json", "num_samples is 19", "have 18"});
  run("sed -i 's/\"num_samples\": 19/\"num_samples\": 18/' sh/_info.json");
  // A shard cut in the middle is named when it is read.
  fs::resize_file(at("sh/train-000000.tar"), 4000);
  refused("data_tic check sh", 3, {"train-000000.tar", "cut"});
}

TEST_F(DataTic, PackedSmallerTheShorterSideIsAsAskedAndOddImagesAreKept) {
  result(prepare("val_wnids.txt"));
  // One pixel, a line, an empty file.
  Image tiny, line;
  tiny.resize(1, 1);
  line.resize(65500, 1);
  write_png(at("in/train/n01440764/tiny.png").string(), tiny);
  write_png(at("in/train/n01440764/line.png").string(), line);
  write_whole_file(at("in/train/n01440764/empty.jpg"), "");
  const Answer packed = run("data_tic pack in -o sh --resize-short 24 --quality 90 --json");
  EXPECT_EQ(packed.json()["unreadable"], 2) << packed.log;  // the cut one and the empty one
  EXPECT_EQ(packed.json()["images"], 27);
  const Answer checked = run("data_tic check sh --json");
  EXPECT_EQ(checked.code, 3);
  EXPECT_EQ(checked.json()["train"]["unreadable"], 2);
  EXPECT_EQ(checked.json()["train"]["shorter_side"]["1-31"], 19);
}

}  // namespace
}  // namespace mullion
