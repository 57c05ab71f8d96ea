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
#include "data/shard_files.h"
#include "data/shard_index.h"

namespace mullion {

class ImageShards : public ImageSource {
 public:
  // `classes`: of the training set, for a validation split; else those that _info.json names, or
  // the numbers themselves. Throws bad_file for a class that is not there, in either direction, for
  // a name of two classes, and for an _info.json with other numbers of samples than the shards
  // have.
  ImageShards(const std::filesystem::path& folder, const std::string& split,
              const std::vector<std::string>* classes = nullptr);

  int64_t size() const override { return static_cast<int64_t>(samples_.size()); }
  int64_t bytes(int64_t index) const override { return at(index).size; }
  const std::string& root() const override { return root_; }
  const std::vector<std::string>& classes() const override { return classes_; }
  int64_t label(int64_t index) const override { return at(index).label; }
  std::string path(int64_t index) const override;  // SHARD/KEY
  void read(int64_t index, std::vector<uint8_t>& out) const override;
  // As the samples' .json say, for a picture that was packed under another key. Walks the shards.
  std::vector<std::string> file_names() const override;
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
  void find_doubles();
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
