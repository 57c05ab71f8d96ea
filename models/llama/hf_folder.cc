// Tensors dealt to shards by size, each shard written in one pass, the index last.
#include "models/llama/hf_folder.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "models/llama/checkpoint_names.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/io/quantize.h"
#include "tensor/io/safetensors.h"

namespace mullion {
namespace {

using Shard = std::vector<TensorSpec>;

// In the order of the layers, filled up one after another; a tensor above the limit is alone.
std::vector<Shard> shards_of(const LlamaConfig& config, DType dtype, uint64_t limit) {
  std::vector<Shard> shards(1);
  uint64_t filled = 0;
  for (auto& [name, shape] : llama_tensors(config)) {
    uint64_t bytes = static_cast<uint64_t>(size_of(dtype));
    for (const int64_t size : shape) bytes *= static_cast<uint64_t>(size);
    if (filled > 0 && filled + bytes > limit) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back({name, dtype, std::move(shape)});
    filled += bytes;
  }
  return shards;
}

std::string shard_name(size_t index, size_t count) {
  if (count == 1) return "model.safetensors";
  char name[64];
  std::snprintf(name, sizeof(name), "model-%05zu-of-%05zu.safetensors", index + 1, count);
  return name;
}

}  // namespace

void write_hf_folder(const std::filesystem::path& folder, const LlamaConfig& config,
                     const TensorSource& weights, DType dtype, uint64_t shard_bytes) {
  check_llama_tensors(config, weights);
  LlamaConfig stated = config;
  stated.dtype = dtype;
  write_json_file(folder / "config.json", to_json(stated));
  const std::vector<Shard> shards = shards_of(config, dtype, shard_bytes);
  nlohmann::json map = nlohmann::json::object();
  uint64_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    SafetensorsWriter writer(folder / name, shards[i]);
    for (const TensorSpec& spec : shards[i]) {
      const auto bytes = stored_as(weights, spec.name, stored_type_of(dtype));
      writer.write(spec.name, bytes);
      map[spec.name] = name;
      total += bytes.size();
    }
    writer.commit();
  }
  if (shards.size() > 1)
    write_json_file(folder / "model.safetensors.index.json",
                    {{"metadata", {{"total_size", total}}}, {"weight_map", map}});
}

}  // namespace mullion
