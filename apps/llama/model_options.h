// The options by which every program names a LLaMA, and the model they stand for.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "apps/common/options.h"
#include "data/tokenizer.h"
#include "models/llama/load.h"

namespace mullion {

// --model --adapter --dtype --rope-scaling --rope-factor
void add_model_options(OptionTable& table);
// --rope-scaling and --rope-factor alone.
void add_rope_options(OptionTable& table);

// Position Interpolation as the two options say, for `context` tokens (0: as many as the model
// has). auto: as the model or `note` (its adapter's) says, and with `extend` as far as context
// asks. A context that then does not fit is Error(usage).
void apply_rope_options(LlamaConfig& config, const Options& options, int64_t context, bool extend,
                        const std::optional<LongContextNote>& note = {});
// "rope linear, factor 4 (8192 -> 32768 tokens)"
std::string describe_rope(const LlamaConfig& config);

struct OpenedLlama {
  std::unique_ptr<Llama> model;  // full attention, nothing trainable
  std::filesystem::path path;
};
// The model of --model with the adapter of --adapter.
OpenedLlama open_llama(const Options& options, int64_t context);

// Fingerprint of the weights: names, shapes and the first bytes of each tensor.
std::string fingerprint(const TensorSource& weights);

// The tokenizer of --model. Error(bad_file) where it has more tokens than the model.
std::unique_ptr<Tokenizer> open_tokenizer(const Options& options, const LlamaConfig& config);

}  // namespace mullion
