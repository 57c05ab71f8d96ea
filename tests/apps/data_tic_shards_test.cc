// data_tic pack and the shards it makes: changed images, orientation, what is left out, indexes,
// and labels of ReaL by the images' own names.
#include "data/png.h"
#include "data/tar.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tests/apps/programs.h"
#include "tests/source_dir.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::Answer;
using test::contents;

class PackedShards : public test::Programs {
 protected:
  PackedShards() : Programs({"train_tic", "eval_tic", "data_tic"}) {}
  // `name` below the test's folder: a picture of one level, 40 pixels wide and 30 high.
  void put(const std::string& name, int level) const {
    fs::create_directories(at(name).parent_path());
    Image image;
    image.resize(40, 30);
    image.pixels.assign(image.pixels.size(), static_cast<uint8_t>(level));
    write_png(at(name).string(), image);
  }
  // Two classes with three training images each, and one for validation.
  void make_set() const {
    for (const char* wnid : {"a", "b"}) {
      for (int i = 0; i < 3; ++i)
        put(concat("in/train/", wnid, "/", i, ".png"), 40 * i + 10 * (wnid[0] - 'a'));
      put(concat("in/val/", wnid, "/v.png"), 200);
    }
  }
  static constexpr const char* kPack = "data_tic pack in -o sh --shard-size 1kB --json ";
};

TEST_F(PackedShards, ImagesThatChangedAreNotMixedWithOldOnes) {
  make_set();
  const auto first = result(kPack);
  EXPECT_EQ(first["written"], first["shards"]);
  const Answer again = run(kPack);
  EXPECT_EQ(again.code, 0) << again.log;
  EXPECT_EQ(again.json()["written"], 0);
  EXPECT_NE(again.log.find("no shard was written: sh was complete already"), std::string::npos)
      << again.log;
  // Half done, then an image is another one of the same size.
  fs::remove(at("sh/_info.json"));
  fs::remove(at("sh/val-000000.tar"));
  EXPECT_GT(result(kPack)["written"], 0);
  const std::string bytes = contents(at("in/train/a/1.png"));
  run("sleep 0.05");
  write_whole_file(at("in/train/a/1.png"), bytes);
  refused(kPack, 2, {"sh: was packed from other images", "of train, images were changed since"});
  // The plan of a version that kept no times: what is there goes on, and that is said.
  auto plan = nlohmann::json::parse(contents(at("sh/_pack.json")));
  for (auto& split : plan) split.erase("sizes_and_times_sha256");
  write_whole_file(at("sh/_pack.json"), plan.dump());
  const Answer old = run(kPack);
  EXPECT_EQ(old.code, 0) << old.log;
  EXPECT_NE(old.log.find("begun by a version that kept no sizes and times"), std::string::npos);
}

TEST_F(PackedShards, WhatIsLeftOutIsSaid) {
  make_set();
  put("in/test/a/t.png", 3);
  Answer packed = run(kPack);
  EXPECT_EQ(packed.code, 0);
  EXPECT_EQ(packed.json()["left_out"], nlohmann::json::array({"test"}));
  EXPECT_NE(packed.log.find("in: packed are train and val, left out: test"), std::string::npos)
      << packed.log;
  fs::remove_all(at("in/test"));
  fs::remove_all(at("in/val"));
  packed = run("data_tic pack in -o s2 --json");
  EXPECT_NE(packed.log.find("no validation images"), std::string::npos) << packed.log;
  EXPECT_EQ(packed.json()["left_out"], nlohmann::json::array());
}

// The block of a PNG that says by EXIF that it is stored turned; the checksum is counted anew.
std::string turned(const std::string& png) {
  std::string chunk = "eXIf";
  chunk += std::string("MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0", 26);
  uint32_t crc = 0xFFFFFFFF;
  for (const char c : chunk) {
    crc ^= static_cast<uint8_t>(c);
    for (int i = 0; i < 8; ++i) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320 : 0);
  }
  const auto number = [](uint32_t n) {
    std::string text;
    for (int shift = 24; shift >= 0; shift -= 8) text += static_cast<char>(n >> shift & 0xFF);
    return text;
  };
  constexpr size_t kAfterHeader = 33;
  const std::string block = number(static_cast<uint32_t>(chunk.size() - 4)) + chunk + number(~crc);
  return png.substr(0, kAfterHeader) + block + png.substr(kAfterHeader);
}

TEST_F(PackedShards, SmallerPicturesStayTurnedAndWhatTheyLoseIsCounted) {
  make_set();
  const fs::path file = at("in/train/a/0.png");
  fs::copy_file(fs::path(test::source_dir) / "tests/real/images/rgba.png",
                at("in/train/b/rgba.png"));
  write_whole_file(file, turned(contents(file)));
  EXPECT_EQ(result("data_tic check in --json")["train"]["turned_by_exif"], 1);
  const auto packed = result(std::string(kPack) + "--resize-short 5");
  const auto checked = result("data_tic check sh --json");
  EXPECT_EQ(checked["train"]["turned_by_exif"], 1);
  EXPECT_EQ(checked["train"]["png"], 0);
  // What is not kept is counted.
  const auto notes = packed["notes"]["train"];
  ASSERT_EQ(notes.size(), 1u) << notes;
  EXPECT_EQ(notes.begin().key().find("transparency"), 0u) << notes;
  EXPECT_EQ(notes.begin().value(), 1);
}

TEST_F(PackedShards, CheckComparesTheIndexesWithTheShards) {
  make_set();
  result(kPack);
  EXPECT_EQ(result("data_tic check sh --json")["wrong_indexes"], 0);
  // The label of the first sample, "..., 0]" or "..., 1]".
  run("sed -i '2s/, 0\\]/, 7]/; 2s/, 1\\]/, 0]/; 2s/, 7\\]/, 1]/' sh/train-000000.tar.idx");
  refused("data_tic check sh", 3,
          {"train-000000.tar.idx: sample 0 is 00000000", "remove the index"});
}

TEST_F(PackedShards, ADamagedArchiveIsNamedByCheckAndPrepare) {
  make_set();
  result("data_tic pack in -o sh --json");
  run("cp sh/train-000000.tar one.tar; cat one.tar one.tar > sh/train-000000.tar");
  refused("data_tic check sh", 3, {"sh/train-000000.tar", "more follows"});
  // A class archive in the archive of all.
  const auto member = [](const std::string& name, const std::string& bytes) {
    return tar_header(name, bytes.size()) + bytes + std::string(tar_padding(bytes.size()), '\0');
  };
  const std::string picture = contents(at("in/val/a/v.png")), end(1024, '\0');
  const std::string a = member("n00000001_1.JPEG", picture) + std::string(512, '\0') +
                        member("n00000001_2.JPEG", picture) + end;
  const std::string b = member("n00000002_1.JPEG", picture) + end;
  write_whole_file(at("train.tar"), member("n00000001.tar", a) + member("n00000002.tar", b) + end);
  write_whole_file(at("val.tar"), member("ILSVRC2012_val_00000001.JPEG", picture) +
                                      member("ILSVRC2012_val_00000002.JPEG", picture) + end);
  write_whole_file(at("labels.txt"), "n00000001\nn00000002\n");
  refused("data_tic prepare --train train.tar --val val.tar -o p --val-labels labels.txt", 3,
          {"train.tar/n00000001.tar", "zero block"});
  EXPECT_FALSE(fs::exists(at("p/train")));
}

TEST_F(PackedShards, AListThatHasNoSuchSplitIsNamed) {
  make_set();
  result(kPack);
  run("mv sh/_info.json info; sed 's/\"val\"/\"other\"/g' info > sh/_info.json");
  const std::string train =
      "train_tic --model tic-n --msa-kernel 3 -b 2 --img-size 32 --max-steps 1 --warmup-epochs 0 "
      "--output runs --name r --threads 1 --json --data-dir ";
  refused(train + "sh --val-split test", 3, {"sh/_info.json: lists no shards of test", "train"});
  run("echo '{}' > sh/_info.json");
  refused("data_tic check sh", 3, {"sh/_info.json: no object \"splits\""});
}

// The 1,000 classes of a miniature: ReaL's labels are theirs, found by the images' own names though
// the shards have numbers as keys; a class without images has no recall.
TEST_F(PackedShards, RealLabelsGoByTheNamesOfTheImages) {
  char id[16];
  for (int c = 0; c < 1000; ++c) {
    std::snprintf(id, sizeof id, "n%08d", c);
    put(concat("in/train/", id, "/1.png"), c % 250);
  }
  put("in/val/n00000003/ILSVRC2012_val_00000002.png", 3);
  put("in/val/n00000007/ILSVRC2012_val_00000001.png", 7);
  result("data_tic pack in -o sh --json");
  result(
      "train_tic --data-dir sh --model tic-n --msa-kernel 3 -b 2 --img-size 32 --max-steps 1 "
      "--warmup-epochs 0 --output runs --name r --threads 1 --json");
  // Every class is right for the first image and none for the second.
  std::string all = "[[0";
  for (int c = 1; c < 1000; ++c) all += "," + std::to_string(c);
  write_whole_file(at("real.json"), all + "], []]");
  const std::string eval = "eval_tic --checkpoint runs/r --json --data-dir ";
  for (const std::string data : {"in", "sh"}) {
    const auto answer = result(eval + data + " --real-labels real.json --per-class");
    EXPECT_EQ(answer["real_top1"], 100) << data;
    EXPECT_EQ(answer["real_count"], 1) << data;
    EXPECT_TRUE(answer["per_class"][0]["recall"].is_null());
    EXPECT_TRUE(answer["per_class"][3]["recall"].is_number());
  }
  fs::rename(at("in/val/n00000003/ILSVRC2012_val_00000002.png"), at("in/val/n00000003/x_2.png"));
  refused(eval + "in --real-labels real.json", 3, {"x_2.png", "ILSVRC2012_val_ and 8 digits"});
  fs::remove_all(at("s2"));
  result("data_tic pack in -o s2 --json");
  refused(eval + "s2 --real-labels real.json", 3, {"x_2.png"});
}

TEST_F(PackedShards, ANameOfAClassIsGivenOnce) {
  make_set();
  result(
      "train_tic --data-dir in --model tic-n --msa-kernel 3 -b 2 --img-size 32 --max-steps 1 "
      "--warmup-epochs 0 --output runs --name r --threads 1 --json");
  write_whole_file(at("names.txt"), "n01440764 tench\nn01443537 goldfish\nn01440764 another\n");
  const std::string eval = "eval_tic --data-dir in --checkpoint runs/r --class-names ";
  refused(eval + "names.txt", 3, {"names.txt, line 3: n01440764"});
  write_whole_file(at("names.json"), R"({"0": ["a", "x"], "1": ["a", "y"]})");
  refused(eval + "names.json", 3, {"names.json: entry 1: a has a name already"});
}

}  // namespace
}  // namespace mullion
