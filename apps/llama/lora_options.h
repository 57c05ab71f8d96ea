// The options of a training by LoRA: --lora-rank and its kin, beside --full; and an adapter to
// start from, which says for itself what they do not.
#pragma once
#include "apps/options/options.h"
#include "models/llama/load.h"
#include "models/llama/peft.h"

namespace mullion {

void add_lora_options(OptionTable& table);

LoraOptions lora_options(const Options& options);

// Where the flags say nothing, the adapter's own rank, scale, targets and trained parts.
// Error(usage) where they say otherwise, or the adapter is of a kind that cannot be continued.
void follow_adapter(Options& options, const AdapterConfig& adapter);

}  // namespace mullion
