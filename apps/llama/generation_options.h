// The options by which programs say how text is made, and what ends it.
#pragma once
#include <cstdint>
#include <vector>

#include "apps/llama/model_options.h"
#include "data/chat_template.h"
#include "models/llama/generate.h"

namespace mullion {

// A seed of its own for each call of a program (--seed -1).
inline constexpr uint64_t kAnySeed = UINT64_MAX;
// --temp --top-k --top-p --min-p --repeat-penalty --seed, with the values of `defaults`.
void add_sampling_options(OptionTable& table, const SamplerOptions& defaults = {.seed = 42});
// Where no text has a temperature of its own: the others count only with --temp above 0.
void need_temperature(OptionTable& table);
SamplerOptions sampling_options(const Options& options);
// --stop, once for each text.
void add_stop_option(OptionTable& table);
std::vector<std::string> stop_strings(const Options& options);

// The ids that end a text of this model: those of its tokenizer and of its configuration, each
// once.
std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer);
// And that of the template.
std::vector<int32_t> stop_ids(const OpenedModel& model, const Tokenizer& tokenizer,
                              const ChatTemplate& chat);

}  // namespace mullion
