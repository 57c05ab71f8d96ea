// Ranks of one run must have the same model, though each reads its own files.
#pragma once
#include <filesystem>
#include <string>

#include "data/tokenizer.h"
#include "models/llama/config.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

// Error(usage) where ranks have other models, or other adapters on them ("": none), than the first
// one: by their configurations and what their weights hold (tensor/io/contents.h). `weights`: null
// where they are made from the seed; `name_of_adapter`: for the message.
void require_same_model(const LlamaConfig& config, const TensorSource* weights,
                        const std::filesystem::path& adapter, const std::string& name_of_adapter);
// What makes ids of texts: the tokenizer, and which tokens it puts around them.
std::string tokenizer_identity(const Tokenizer& tokenizer);

}  // namespace mullion
