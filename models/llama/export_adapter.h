// A LoRA adapter in the forms that others read.
#pragma once
#include <filesystem>
#include <string>
#include <vector>

#include "models/llama/config.h"

namespace mullion {

// The PEFT folder `adapter` as llama.cpp's GGUF adapter (its --lora): pairs in F32, B of q and k
// with their rows in GGUF's order, one alpha for all, into which ranks, patterns and rslora are
// worked. Error(usage) where the adapter has whole parameters (embedding, norms, head), for which
// the format has no place: they can only be merged. `base` is the configuration of the model it is
// for.
void write_gguf_adapter(const std::filesystem::path& path, const LlamaConfig& base,
                        const std::filesystem::path& adapter);
// Its errors about the adapter, without writing.
void check_gguf_adapter(const LlamaConfig& base, const std::filesystem::path& adapter);

// The same adapter with the key names and fields that PEFT itself writes, into an existing folder:
// adapter_config.json and adapter_model.safetensors, in f32.
void write_peft_adapter(const std::filesystem::path& folder, const LlamaConfig& base,
                        const std::filesystem::path& adapter);

}  // namespace mullion
