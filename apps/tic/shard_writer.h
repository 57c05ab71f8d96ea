// One shard and its index, in the form that data/image_shards.h reads.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "data/image_notes.h"
#include "data/shard_index.h"

namespace mullion {

// A picture's file as it goes into a shard, its extension, and what is known of it.
struct PackedSample {
  std::vector<uint8_t> bytes;
  std::string extension, json, fault;
  NoteSet lost;  // what the encoding of a smaller picture passed over
};

// A shard in the making, under a name of its own until it is whole.
class ShardWriter {
 public:
  explicit ShardWriter(std::filesystem::path shard);
  ~ShardWriter();
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  uint64_t bytes() const { return index_.bytes; }
  int64_t samples() const { return static_cast<int64_t>(index_.samples.size()); }
  void add(const std::string& key, const PackedSample& sample, int64_t label);
  void finish();

 private:
  uint64_t member(const std::string& name, const void* bytes, size_t size);
  void append(const void* bytes, size_t size);

  std::filesystem::path shard_, partial_;
  int fd_;
  ShardIndex index_;
};

}  // namespace mullion
