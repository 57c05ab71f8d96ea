// A LLaMA as a Hugging Face folder: what transformers, vLLM and most others open.
#pragma once
#include <cstdint>
#include <filesystem>

#include "models/llama/config.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// The largest file of weights that Hugging Face's tools write without being asked.
constexpr uint64_t kShardBytes = 5'000'000'000;

// config.json, saying `dtype`, and the weights in it: model.safetensors, or where they are more
// than shard_bytes, model-00001-of-0000N.safetensors with model.safetensors.index.json. `weights`
// has the tensors of `config` (check_llama_tensors), of which one is in memory at a time.
// Error(bad_file) names a value that is not finite, or that f16 does not hold.
void write_hf_folder(const std::filesystem::path& folder, const LlamaConfig& config,
                     const TensorSource& weights, DType dtype, uint64_t shard_bytes = kShardBytes);

}  // namespace mullion
