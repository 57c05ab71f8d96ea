// README.md of an adapter folder. PEFT has no field for rope scaling: an adapter of an extended
// model opened as it is computes something else, without a warning there. The card says so first.
#pragma once
#include <string>

#include "models/llama/config.h"

namespace mullion {

// Python (transformers 4.51 to 5, PEFT) that opens `base` as `config` says and the adapter on it;
// five lines.
std::string python_lines(const LlamaConfig& config, const std::string& base);

// `lines`: those above, "" for an adapter that needs none.
std::string adapter_card(const LlamaConfig& config, const std::string& base,
                         const std::string& lines);

}  // namespace mullion
