// The verbs of data_llama that have files of their own: what each takes, and what it does.
#pragma once
#include "apps/program/main.h"
#include "models/llama/config.h"

namespace mullion {

// The tiny model that learns the made-up language: `heads` of 64, so that 2 make 0.9 M parameters.
LlamaConfig lexicon_model(int64_t context, int64_t heads);

OptionTable lexicon_table();
Outcome make_lexicon(const Options& options);

// Questions whose answer stands once in a document, at a chosen depth: topic retrieval, passkey and
// questions with choices in the language's own words.
OptionTable lookups_table();
Outcome make_lookups(const Options& options);

OptionTable instructions_table();
Outcome show_instructions(const Options& options);

OptionTable compose_table();
Outcome compose(const Options& options);

}  // namespace mullion
