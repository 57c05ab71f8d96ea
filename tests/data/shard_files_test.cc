// Which files are the shards of a split: no file in two splits or twice, and none passed over
// without a word.
#include "data/shard_files.h"

#include "tests/data/made_shards.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using test::error_of;

class ShardNames : public test::ShardFolder {
 protected:
  void touch(const std::string& name) {
    fs::create_directories((folder_ / name).parent_path());
    write_whole_file(folder_ / name, "x");
  }
  void info(const std::string& text) { write_whole_file(folder_ / "_info.json", text); }
  std::string error(const std::string& split) {
    return error_of([&] { shard_files(folder_, split); });
  }
  // The kinds of what is not taken, with their counts and first names.
  std::string not_taken(const std::string& split) {
    std::string text;
    for (const NotTaken& n : shard_files(folder_, split).not_taken)
      text += concat(n.kind, " ", n.count, " ", n.example, n.picture ? "" : " no picture", "; ");
    return text;
  }
};

TEST_F(ShardNames, ANameOfTwoSplitsIsRefused) {
  for (const std::string name : {"train-val-000000.tar", "imagenet-train-v2-val-000000.tar"}) {
    touch(name);
    for (const char* split : {"train", "val"})
      for (const std::string& word : {std::string("train"), std::string("val"), name})
        EXPECT_NE(error(split).find(word), std::string::npos) << error(split);
    EXPECT_NE(error("train").find("name of a shard of train and of val"), std::string::npos);
    fs::remove(folder_ / name);
  }
  // A list says what they are; so does a folder.
  touch("train-val-000000.tar");
  info(R"({"splits": {"val": {"filenames": ["train-val-000000.tar"]}}})");
  EXPECT_EQ(find_shards(folder_, "val").size(), 1u);
  EXPECT_EQ(find_shards(folder_, "train").size(), 0u);
  fs::remove(folder_ / "_info.json");
  fs::remove(folder_ / "train-val-000000.tar");
  touch("val/train-val-000000.tar");
  EXPECT_EQ(find_shards(folder_, "val").size(), 1u);
}

TEST_F(ShardNames, AFileListedTwiceIsRefused) {
  info(R"({"splits": {"train": {"filenames": ["train-0.tar", "train-0.tar"]}}})");
  EXPECT_NE(error("train").find("train-0.tar is listed twice: in splits.train and in splits.train"),
            std::string::npos)
      << error("train");
  info(R"({"splits": {"train": {"filenames": ["t.tar"]}, "val": {"filenames": ["t.tar"]}}})");
  EXPECT_NE(error("val").find("in splits.train and in splits.val"), std::string::npos);
  // All of them once more is no other use.
  info(R"({"splits": {"all": {"filenames": ["t.tar"]}, "train": {"filenames": ["t.tar"]}}})");
  EXPECT_EQ(find_shards(folder_, "train").size(), 1u);
  // Without shards the file may be about anything.
  info(R"({"license": "x"})");
  EXPECT_EQ(find_shards(folder_, "train").size(), 0u);
  touch("train-0.tar");
  for (const char* text : {"{}", "[]", R"({"splits": []})"}) {
    info(text);
    EXPECT_NE(error("train").find("_info.json: no object \"splits\""), std::string::npos) << text;
  }
}

TEST_F(ShardNames, FilesNamedLikeShardsAreCounted) {
  for (const char* name : {"train-000000.tar", "train-000000.tar.idx", "train-000001.tar.part",
                           "train-000002.TAR", "train-000003.tar.zst", "train-000004.tgz",
                           "val-000000.tar", "val-000001.tar.gz", "trian-000001.tar"})
    touch(name);
  EXPECT_EQ(not_taken("train"),
            kLikeShards + " 4 train-000001.tar.part; " + kOfNoSplit + " 1 trian-000001.tar; ");
  EXPECT_EQ(not_taken("val"),
            kLikeShards + " 1 val-000001.tar.gz; " + kOfNoSplit + " 1 trian-000001.tar; ");
  info(R"({"splits": {"train": {"filenames": ["train-000000.tar"]}}})");
  EXPECT_EQ(not_taken("train"),
            kUnlistedShards + " 2 trian-000001.tar; " + kLikeShards + " 5 train-000001.tar.part; ");
  fs::remove(folder_ / "_info.json");
  fs::remove(folder_ / "train-000000.tar");
  EXPECT_NE(error("train").find("train-000001.tar.part: no shard"), std::string::npos);
}

TEST_F(ShardNames, MissingNumbersAreSaid) {
  const auto doubts = [&] { return shard_files(folder_, "train").doubts; };
  for (const char* name : {"train-000001.tar", "train-000002.tar", "a-train-0-of-2.tar",
                           "a-train-1-of-2.tar", "train-last.tar"})
    touch(name);
  EXPECT_TRUE(doubts().empty()) << doubts()[0];
  touch("train-000005.tar");
  touch("b-train-7.tar");
  ASSERT_EQ(doubts().size(), 2u);
  EXPECT_NE(doubts()[0].find("begin with b-train-7.tar"), std::string::npos) << doubts()[0];
  EXPECT_EQ(doubts()[1], "2 shards are missing between train-000002.tar and train-000005.tar");
}

TEST_F(ShardNames, ShardsInTwoPlacesAreRefused) {
  touch("train-000000.tar");
  touch("train/train-000000.tar");
  EXPECT_NE(error("train").find("one of them has to go"), std::string::npos) << error("train");
  // An archive beside the folder that was unpacked from it is no shard of it.
  touch("val/n01440764/a.png");
  touch("val.tar.gz");
  EXPECT_EQ(find_shards(folder_, "val").size(), 0u);
}

}  // namespace
}  // namespace mullion
