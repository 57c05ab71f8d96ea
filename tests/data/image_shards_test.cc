// Shards as a source of images: the index beside a shard, classes and their absence, and what is
// said of shards that were changed, cut or compressed.
#include "data/image_shards.h"

#include <chrono>

#include "data/loader.h"
#include "tests/data/made_shards.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using test::Member;
using test::picture;
using test::sample;

class Shards : public test::ShardFolder {};

TEST_F(Shards, AnyOrderGivesTheBytesAndTheIndexIsKept) {
  put("train-000000.tar", {sample("a", 10, 1), sample("b", 20, 0)});
  put("train-000001.tar", {sample("c", 30, 1)});
  put("val-000000.tar", {sample("d", 40, 0)});
  for (int pass = 0; pass < 2; ++pass) {
    const ImageShards shards(folder_, "train");
    ASSERT_EQ(shards.size(), 3);
    EXPECT_EQ(shards.classes(), (std::vector<std::string>{"0", "1"}));
    std::vector<uint8_t> bytes;
    for (const int64_t i : {2, 0, 1}) {
      shards.read(i, bytes);
      EXPECT_EQ(std::string(bytes.begin(), bytes.end()), picture(10 + 10 * static_cast<int>(i)));
    }
    EXPECT_EQ(shards.label(0), 1);
    EXPECT_EQ(shards.path(2), (folder_ / "train-000001.tar/c").string());
    EXPECT_TRUE(fs::exists(folder_ / "train-000000.tar.idx"));
  }
  const std::vector<std::string> classes = {"x", "y"};
  const ImageShards val(folder_, "val", &classes);
  EXPECT_EQ(val.classes(), classes);
  EXPECT_EQ(val.absent_classes(), (std::vector<std::string>{"y"}));
  EXPECT_EQ(val.doubts().size(), 1u);  // the shards do not name their classes
}

TEST_F(Shards, AnIndexOfAnotherShardIsFoundOut) {
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  const ImageShards before(folder_, "train");
  // Of the same size: the picture stands behind the class.
  std::vector<Member> turned = sample("a", 10, 0), second = sample("b", 20, 1);
  std::swap(turned[0], turned[1]);
  std::swap(second[0], second[1]);
  const auto written = fs::last_write_time(folder_ / "train-000000.tar");
  put("train-000000.tar", {turned, second});
  fs::last_write_time(folder_ / "train-000000.tar", written);
  std::vector<uint8_t> bytes;
  EXPECT_NE(error_of([&] { ImageShards(folder_, "train").read(0, bytes); }).find("another shard"),
            std::string::npos);
  // Of another size: made anew.
  put("train-000000.tar", {turned, second, sample("c", 30, 1)});
  ImageShards(folder_, "train").read(2, bytes);
  EXPECT_EQ(std::string(bytes.begin(), bytes.end()), picture(30));
  fs::resize_file(folder_ / "train-000000.tar", 1500);
  expect_error({"train-000000.tar", "cut"});
  EXPECT_NE(error_of([&] { before.read(1, bytes); }).find("was cut after its index"),
            std::string::npos);
}

// Another shard of the same size, with other labels, has come in the place of the first.
TEST_F(Shards, AnOldIndexOfTheSameSizeGivesNoOldLabels) {
  const fs::path shard = folder_ / "train-000000.tar";
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  const auto written = fs::last_write_time(shard);
  EXPECT_EQ(ImageShards(folder_, "train").label(0), 0);
  put("train-000000.tar", {sample("a", 10, 1), sample("b", 20, 0)});
  fs::last_write_time(shard, written + std::chrono::seconds(1));
  const ImageShards anew(folder_, "train");
  EXPECT_EQ(anew.label(0), 1);
  EXPECT_EQ(anew.label(1), 0);
  ASSERT_EQ(anew.doubts().size(), 1u);
  EXPECT_NE(anew.doubts()[0].find("train-000000.tar"), std::string::npos) << anew.doubts()[0];
  EXPECT_TRUE(ImageShards(folder_, "train").doubts().empty());
}

TEST_F(Shards, WhatInfoSaysIsComparedWithTheShards) {
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  put("train-000001.tar", {sample("c", 30, 0)});
  const auto info = [&](const std::string& fields) {
    write_whole_file(
        folder_ / "_info.json",
        "{\"splits\": {\"train\": {\"filenames\": [\"train-000000.tar\"]" + fields + "}}}");
  };
  info(", \"num_samples\": 3");
  expect_error({"_info.json", "splits.train.num_samples is 3", "have 2"});
  info(", \"shard_lengths\": [1]");
  expect_error({"_info.json", "shard_lengths", "train-000000.tar", "which has 2"});
  info(", \"num_samples\": 2, \"shard_lengths\": [2]");
  const ImageShards shards(folder_, "train");
  ASSERT_EQ(shards.not_taken().size(), 1u);
  EXPECT_EQ(shards.not_taken()[0].kind, kUnlistedShards);
  EXPECT_EQ(shards.not_taken()[0].example, "train-000001.tar");
}

TEST_F(Shards, AWrongIndexIsRefused) {
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  const auto size = std::to_string(fs::file_size(folder_ / "train-000000.tar"));
  for (const auto& [index, word] : std::vector<std::pair<std::string, std::string>>{
           {"{", "train-000000.tar.idx"},
           {"{\"shard_bytes\": " + size + "}", "samples"},
           {"{\"shard_bytes\": " + size + ", \"samples\": [[\"a\", 99999999, 5, 0]]}", "outside"},
           {"{\"shard_bytes\": " + size + ", \"samples\": [[\"a\", 512, 99999999, 0]]}", "outside"},
           {"{\"shard_bytes\": " + size + ", \"samples\": [[\"a\", 10, 5, 0]]}", "outside"},
           {"{\"shard_bytes\": " + size + ", \"samples\": [[\"a\", 512, 5]]}", "list of 4"},
           {"{\"shard_bytes\": " + size + ", \"samples\": [[\"a\", 512, 5, -1]]}", "label"}}) {
    write_whole_file(folder_ / "train-000000.tar.idx", index);
    expect_error({word});
  }
}

TEST_F(Shards, ClassesThatAreNotThereAreNamed) {
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 2)});
  expect_error({"1 classes without a picture", "1"});
  const std::vector<std::string> two = {"x", "y"};
  expect_error({"class 2 of 2"}, &two);
  write_whole_file(folder_ / "_info.json",
                   "{\"splits\": {\"train\": {\"filenames\": [\"train-000000.tar\"]}}, "
                   "\"class_names\": [\"x\", \"y\", \"z\"]}");
  expect_error({"classes unknown to the training set: z"}, &two);
  write_whole_file(folder_ / "_info.json",
                   "{\"splits\": {\"train\": {\"filenames\": [\"../train-000000.tar\"]}}}");
  expect_error({"_info.json", "../train-000000.tar"});
}

TEST_F(Shards, CompressedShardsAreRefusedByName) {
  write_whole_file(folder_ / "train-000000.tar.gz", "x");
  expect_error({"train-000000.tar.gz", "compressed"});
  fs::remove(folder_ / "train-000000.tar.gz");
  expect_error({"no shards of the split train"});
}

// Others name their shards NAME-SPLIT-NUMBER.tar, or put them into a folder of the split.
TEST_F(Shards, NamesOfOthersAreFound) {
  put("imagenet-train-0000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  put("imagenet-validation-0000.tar", {sample("c", 10, 0)});
  EXPECT_EQ(find_shards(folder_, "train").size(), 1u);
  EXPECT_EQ(find_shards(folder_, "validation").size(), 1u);
  EXPECT_EQ(find_shards(folder_, "val").size(), 0u);
  fs::create_directories(folder_ / "test");
  put("test/0.tar", {sample("a", 10, 0)});
  EXPECT_EQ(find_shards(folder_, "test").size(), 1u);
}

TEST_F(Shards, ASampleWithoutAKeyIsNamedAndAKeyEndsAtTheFirstDot) {
  std::vector<Member> hidden = sample("a", 10, 0);
  hidden.push_back({"._a.png", "of another system"});
  put("train-000000.tar", {hidden, sample("b", 20, 1)});
  EXPECT_EQ(ImageShards(folder_, "train").size(), 2);
  put("train-000000.tar", {sample("a", 10, 0), sample("", 20, 1)});
  expect_error({"train-000000.tar/.png", "without a key"});
  put("train-000000.tar", {sample("a", 10, 0), sample("d/", 20, 1)});
  expect_error({"train-000000.tar/d/.png", "without a key"});
  put("train-000000.tar", {sample("img.0", 10, 0), sample("img.1", 20, 1)});
  expect_error({"train-000000.tar/img", "no picture", "first dot"});
}

TEST_F(Shards, ClassNamesOfTwoClassesAreRefused) {
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1), sample("c", 20, 2)});
  write_whole_file(folder_ / "_info.json",
                   "{\"splits\": {\"train\": {\"filenames\": [\"train-000000.tar\"]}}, "
                   "\"class_names\": [\"x\", \"y\", \"x\"]}");
  expect_error({"_info.json", "class_names", "x is the name of class 0 and of class 2"});
}

// Keys may begin anew in each shard; the same picture in two is another thing.
TEST_F(Shards, SamplesThatComeTwiceAreCounted) {
  put("train-000000.tar", {sample("0", 10, 0), sample("1", 20, 1)});
  put("train-000001.tar", {sample("0", 30, 1), sample("2", 20, 1)});
  EXPECT_TRUE(ImageShards(folder_, "train").doubts().empty());
  put("train-000002.tar", {sample("0", 10, 0), sample("2", 20, 1)});
  const std::vector<std::string> doubts = ImageShards(folder_, "train").doubts();
  ASSERT_EQ(doubts.size(), 1u);
  EXPECT_EQ(doubts[0].find("2 samples come a second time"), 0u) << doubts[0];
  EXPECT_NE(doubts[0].find("train-000002.tar"), std::string::npos) << doubts[0];
}

TEST_F(Shards, AnIndexThatSaysOtherwiseThanItsShardIsFoundByAWalk) {
  const fs::path shard = folder_ / "train-000000.tar";
  put("train-000000.tar", {sample("a", 10, 0), sample("b", 20, 1)});
  EXPECT_EQ(index_fault(shard), "");
  ShardIndex index = open_shard_index(shard);
  index.samples[1].label = 0;
  write_shard_index(shard, index);
  const std::string fault = index_fault(shard);
  EXPECT_NE(fault.find("train-000000.tar.idx: sample 1 is b (class 0"), std::string::npos) << fault;
  EXPECT_NE(fault.find("in the shard b (class 1"), std::string::npos) << fault;
  index.samples.pop_back();
  write_shard_index(shard, index);
  EXPECT_NE(index_fault(shard).find("sample 1 is nothing"), std::string::npos);
}

// As data_tic pack writes them, whose keys are numbers.
TEST_F(Shards, FileNamesAreThoseOfTheJsonElseTheKey) {
  std::vector<Member> first = sample("0", 10, 0), second = sample("1", 20, 1);
  first.push_back({"0.json", "{\"file\": \"cat.JPEG\", \"label\": 0}"});
  second.insert(second.begin(), {"1.json", "{\"filename\": \"dog.JPEG\"}"});
  put("train-000000.tar", {first, sample("x", 30, 1), second});
  EXPECT_EQ(ImageShards(folder_, "train").file_names(),
            (std::vector<std::string>{"cat.JPEG", "x", "dog.JPEG"}));
  first[2].bytes = "{\"file\": 5}";
  put("train-000000.tar", {first, second});
  const std::string text = error_of([&] { ImageShards(folder_, "train").file_names(); });
  EXPECT_NE(text.find("train-000000.tar/0.json"), std::string::npos) << text;
}

// Batches of training from shards are those of any number of workers, and of a start in the middle.
TEST_F(Shards, BatchesDoNotDependOnWorkers) {
  std::vector<std::vector<Member>> first, second;
  for (int i = 0; i < 9; ++i) first.push_back(sample("a" + std::to_string(i), 5 * i, i % 2));
  for (int i = 0; i < 8; ++i) second.push_back(sample("b" + std::to_string(i), 9 * i, i % 2));
  put("train-000000.tar", first);
  put("train-000001.tar", second);
  AugmentSettings settings;
  settings.height = settings.width = 8;
  settings.set("mode", std::string("crop"));
  settings.set("auto", std::string("rand-m9-mstd0.5-inc1"));
  const ImageDataset data(std::make_shared<ImageShards>(folder_, "train"),
                          TrainTransform(settings));
  LoaderOptions options;
  options.batch_size = 4, options.shuffle = options.drop_last = true, options.epochs = 2;
  const auto batches = [&] {
    std::vector<std::vector<float>> all;
    Loader loader(data, options);
    for (Batch batch; loader.next(batch);) all.push_back(batch.images);
    return all;
  };
  const auto whole = batches();
  ASSERT_EQ(whole.size(), 8u);
  options.workers = 3;
  EXPECT_EQ(batches(), whole);
  options.first_epoch = 1, options.first_batch = 2, options.epochs = 1, options.workers = 2;
  EXPECT_EQ(batches(), (std::vector<std::vector<float>>(whole.begin() + 6, whole.end())));
}

}  // namespace
}  // namespace mullion
