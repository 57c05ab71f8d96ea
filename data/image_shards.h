// WebDataset shards: tar archives in which the files of a sample stand one after another under one
// key, KEY.jpg (or .jpeg, .png), KEY.cls with the class as a number, and others that are passed
// over. A sample is found by its place alone: beside each shard lies an index, SHARD.idx, with
// where each picture is, so that any order can be read by pread. A shard without an index (others'
// tools write none) is walked at its first opening; the index is kept where the folder can be
// written.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/image_source.h"

namespace mullion {

struct ShardSample {
  std::string key;
  uint64_t offset = 0;  // of the picture's bytes
  uint32_t size = 0;
  int32_t label = 0;
};

struct ShardIndex {
  uint64_t bytes = 0;     // of the shard
  int64_t modified = -1;  // when it was written last, ns since 1970; -1: not known
  std::vector<ShardSample> samples;
};
// By a walk over the whole shard. Throws bad_file for what is wrong with the archive, a sample
// without a picture or a class, a key that comes a second time.
ShardIndex index_shard(const std::filesystem::path& shard);
std::filesystem::path index_path(const std::filesystem::path& shard);
void write_shard_index(const std::filesystem::path& shard, const ShardIndex& index);
// When a shard was written last, by which an index is known to be its own.
int64_t shard_modified(const std::filesystem::path& shard);
// The index beside the shard, made anew where it is missing or the shard has another size or time
// than when the index was made; `was_old` says of the latter.
ShardIndex open_shard_index(const std::filesystem::path& shard, bool* was_old = nullptr);

// The shards of a split in a folder, in the order of their names: those that _info.json lists, else
// SPLIT-*.tar, *-SPLIT-*.tar, or SPLIT/*.tar. Throws bad_file where only compressed ones are there.
std::vector<std::filesystem::path> find_shards(const std::filesystem::path& folder,
                                               const std::string& split);

// The kind of NotTaken of shards beside those that _info.json lists.
inline const std::string kUnlistedShards = "shards that _info.json does not list";

class ImageShards : public ImageSource {
 public:
  // `classes`: of the training set, for a validation split; else those that _info.json names, or
  // the numbers themselves. Throws bad_file for a class that is not there, in either direction, and
  // for an _info.json with other numbers of samples than the shards have.
  ImageShards(const std::filesystem::path& folder, const std::string& split,
              const std::vector<std::string>* classes = nullptr);

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int64_t label(int64_t index) const override { return at(index).label; }
  std::string path(int64_t index) const override;  // SHARD/KEY
  void read(int64_t index, std::vector<uint8_t>& out) const override;
  std::string describe() const override;

  const std::vector<std::string>& absent_classes() const override { return absent_; }
  const std::vector<NotTaken>& not_taken() const override { return not_taken_; }
  const std::vector<std::string>& doubts() const override { return doubts_; }

 private:
  struct Sample {
    std::string key;
    uint64_t offset;
    uint32_t size;
    int32_t label, shard;
  };
  const Sample& at(int64_t index) const { return samples_[static_cast<size_t>(index)]; }
  void check_info(const std::filesystem::path& folder, const std::string& split,
                  const std::vector<uint64_t>& lengths);
  void name_classes(const std::filesystem::path& folder, const std::vector<std::string>* known);

  std::string root_;
  std::vector<std::string> shards_;  // paths
  std::vector<Sample> samples_;
  std::vector<std::string> classes_, absent_, doubts_;
  std::vector<NotTaken> not_taken_;
};

}  // namespace mullion
