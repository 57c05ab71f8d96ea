// The options by which programs say how text is made, and what ends it.
#pragma once
#include <cstdint>
#include <vector>

#include "apps/llama/model_options.h"
#include "models/llama/generate.h"

namespace mullion {

// --temp --top-k --top-p --min-p --seed, with the values of `defaults`.
void add_sampling_options(OptionTable& table, const SamplerOptions& defaults = {.seed = 42});
SamplerOptions sampling_options(const Options& options);

// The ids that end a text of this model: those of its tokenizer and of its configuration, each
// once.
std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer);

}  // namespace mullion
