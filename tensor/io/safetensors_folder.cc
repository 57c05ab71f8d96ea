// Sharded folders. The index and the shards must tell the same story: every tensor of the index in
// the shard it names, no tensor elsewhere, no shard of the same set beside the index.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;
constexpr size_t kMaxShards = 10'000;

// "model-00001-of-00004.safetensors" for the stem "model".
bool is_shard_name(std::string_view name, std::string_view stem) {
  const std::string pattern = concat(stem, "-#####-of-#####.safetensors");
  return std::equal(name.begin(), name.end(), pattern.begin(), pattern.end(),
                    [](char c, char p) { return p == '#' ? c >= '0' && c <= '9' : c == p; });
}

class ShardedFolder : public TensorSource {
 public:
  ShardedFolder(const fs::path& folder, const std::string& stem) : TensorSource(folder.string()) {
    const fs::path index_path = folder / (stem + ".safetensors.index.json");
    const std::string file = index_path.string();
    const nlohmann::json index = read_json_file(index_path);
    const nlohmann::json* map = find_field(index, file, "weight_map");
    CHECK_AS(Fault::bad_file, map && map->is_object() && !map->empty(), file,
             ": \"weight_map\" is no object with tensors in it");
    std::map<std::string, std::vector<std::string>> by_shard;
    for (const auto& [tensor, shard] : map->items()) {
      by_shard[as_string(shard, file, tensor)].push_back(tensor);
    }
    CHECK_AS(Fault::bad_file, by_shard.size() <= kMaxShards, file, ": ", by_shard.size(),
             " shards");
    refuse_unlisted(folder, stem, by_shard);
    for (const auto& [shard, tensors] : by_shard) open_shard(folder, file, shard, tensors);
  }

  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override {
    const auto& shard = *shards_.at(entry.offset);
    shard.read_bytes(shard.at(entry.name), begin, dst);
  }

 private:
  using ByShard = std::map<std::string, std::vector<std::string>>;

  void refuse_unlisted(const fs::path& folder, const std::string& stem, const ByShard& by_shard) {
    for (const auto& item : fs::directory_iterator(folder)) {
      const std::string found = item.path().filename().string();
      CHECK_AS(Fault::bad_file, !is_shard_name(found, stem) || by_shard.contains(found), name(),
               ": the shard ", found, " is not in the index");
    }
  }

  // `tensors` is sorted: the index was read into a sorted object.
  void open_shard(const fs::path& folder, const std::string& index, const std::string& shard,
                  const std::vector<std::string>& tensors) {
    auto file = std::make_unique<SafetensorsFile>(open_beneath(folder, shard));
    for (const std::string& tensor : tensors) {
      CHECK_AS(Fault::bad_file, file->find(tensor), index, ": ", tensor, " should be in ", shard,
               ", which does not have it");
    }
    for (const TensorEntry& entry : file->entries()) {
      const bool listed = std::binary_search(tensors.begin(), tensors.end(), entry.name);
      CHECK_AS(Fault::bad_file, file->entries().size() == tensors.size() || listed, index, ": ",
               shard, " has ", entry.name, ", which the index does not give it");
      TensorEntry own = entry;
      own.offset = shards_.size();
      add(std::move(own));
    }
    shards_.push_back(std::move(file));
  }

  std::vector<std::unique_ptr<SafetensorsFile>> shards_;
};
// What a folder without safetensors has instead, so that the error can say what to do.
[[noreturn]] void refuse_without(const fs::path& folder, const std::string& stem) {
  std::error_code ignored;
  const std::string pickles[] = {stem + ".bin", "pytorch_" + stem + ".bin",
                                 "pytorch_" + stem + ".bin.index.json"};
  for (const std::string& pickle : pickles) {
    if (!fs::exists(folder / pickle, ignored)) continue;
    throw Error(
        concat(folder.string(), ": has ", pickle, ", a pickle of Python, which is not read, ",
               "and no ", stem, ".safetensors"),
        Fault::bad_file,
        "load it with the library that wrote it and save_pretrained(FOLDER, "
        "safe_serialization=True)");
  }
  fail(Fault::bad_file, folder.string(), ": neither ", stem, ".safetensors nor ", stem,
       ".safetensors.index.json is there");
}
}  // namespace

std::unique_ptr<TensorSource> open_safetensors(const fs::path& path, const std::string& stem) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return std::make_unique<SafetensorsFile>(path);
  const fs::path single = path / (stem + ".safetensors");
  const bool one = fs::exists(single, ignored);
  const bool sharded = fs::exists(path / (stem + ".safetensors.index.json"), ignored);
  if (!one && !sharded) refuse_without(path, stem);
  CHECK_AS(Fault::bad_file, !(one && sharded), path.string(), ": both ", stem,
           ".safetensors and an index of shards are there");
  if (one) return std::make_unique<SafetensorsFile>(single);
  return std::make_unique<ShardedFolder>(path, stem);
}

}  // namespace mullion
