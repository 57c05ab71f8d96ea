// Which files of a folder are the shards of a split, and which look like shards and are not taken.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/image_source.h"

namespace mullion {

struct ShardFiles {
  std::vector<std::filesystem::path> shards;
  std::vector<NotTaken> not_taken;
  std::vector<std::string> doubts;  // numbers that are missing among the shards
};

// The shards of a split in a folder, in the order of their names: those that _info.json lists, else
// SPLIT-*.tar, *-SPLIT-*.tar, or SPLIT/*.tar; with "" all of the folder. Throws bad_file for a file
// that belongs to two splits, for one that _info.json lists twice, for shards both in the folder
// and in SPLIT/, and where the only shards are compressed.
ShardFiles shard_files(const std::filesystem::path& folder, const std::string& split);
std::vector<std::filesystem::path> find_shards(const std::filesystem::path& folder,
                                               const std::string& split);
// The splits that _info.json has; none without that file.
std::vector<std::string> listed_splits(const std::filesystem::path& folder);

// Kinds of NotTaken: shards beside those that _info.json lists; names like train-000001.tar.part;
// archives whose names are those of no split.
inline const std::string kUnlistedShards = "shards that _info.json does not list";
inline const std::string kLikeShards = "files named like shards that do not end in .tar";
inline const std::string kOfNoSplit = "archives of no split";

}  // namespace mullion
