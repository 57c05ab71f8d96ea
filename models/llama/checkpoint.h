// A LLaMA model in files: a Hugging Face folder (config.json and safetensors) or one GGUF file.
// Either way the weights come under Hugging Face names, with the rows of q and k half-split.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "models/llama/config.h"
#include "tensor/io/gguf.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

struct LlamaCheckpoint {
  LlamaConfig config;
  std::shared_ptr<const TensorSource> weights;
  std::shared_ptr<const GgufFile> gguf;  // null for a folder; its metadata hold the tokenizer
  std::vector<std::string> notes;        // messages for the user, a line each
};

// Opens and checks names, shapes and sizes. No weight is read yet, but where a tied model has an
// output head of its own: one that differs is used, and the model no longer tied.
LlamaCheckpoint open_llama_checkpoint(const std::filesystem::path& path);

// The tensors of a GGUF file as described above. rope_freqs.weight is part of the configuration and
// not among them.
std::unique_ptr<TensorSource> hf_view(std::shared_ptr<const GgufFile> gguf,
                                      const LlamaConfig& config);

}  // namespace mullion
