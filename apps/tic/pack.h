// Image folders into WebDataset shards with an index beside each (data/image_shards.h).
#pragma once
#include <filesystem>
#include <string>

#include "apps/program/json_object.h"
#include "data/image_source.h"

namespace mullion {

struct PackOptions {
  uint64_t shard_bytes = 1'000'000'000;  // a shard is closed by the sample that reaches it
  int resize_short = 0;                  // the shorter side, pixels; 0: the files' own bytes
  int quality = 95;                      // of JPEG where pictures are resized
  bool shuffle = true;                   // the order of train, for readers that go through shards
  uint64_t seed = 42;
};

// Packs the splits train and val (or test) of the folder `from`. A run that was cut goes on: a
// shard has its name only once it is whole, and the same pictures with the same options give the
// same bytes. Error(usage) where the folder holds the shards of others, or of
// these pictures before they were changed.
JsonObject pack_images(const std::filesystem::path& from, const std::filesystem::path& to,
                       const PackOptions& options);

}  // namespace mullion
