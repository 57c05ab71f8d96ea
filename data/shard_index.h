// Where the pictures of a WebDataset shard are: in the index beside it, SHARD.idx, or by a walk
// through the archive.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

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
// without a key, a picture or a class, a key that comes a second time.
ShardIndex index_shard(const std::filesystem::path& shard);
std::filesystem::path index_path(const std::filesystem::path& shard);
void write_shard_index(const std::filesystem::path& shard, const ShardIndex& index);
// When a shard was written last, by which an index is known to be its own.
int64_t shard_modified(const std::filesystem::path& shard);
// The index beside the shard, made anew where it is missing or the shard has another size or time
// than when the index was made; `was_old` says of the latter.
ShardIndex open_shard_index(const std::filesystem::path& shard, bool* was_old = nullptr);
// What the index beside a shard says otherwise than the shard itself, which is walked; "": nothing.
std::string index_fault(const std::filesystem::path& shard);

// The file names that the samples' .json give ("file", as data_tic pack writes, or "filename"), in
// the order of the samples; the key where there is none. The whole shard is walked.
std::vector<std::string> shard_file_names(const std::filesystem::path& shard);

}  // namespace mullion
