// Many prompts of a file, answered together.
#pragma once
#include "apps/llama/generation_options.h"
#include "apps/llama/prompt_writer.h"
#include "apps/program/main.h"

namespace mullion {

// The rows of --jsonl with their answers, in the order of the file, to --output or stdout. Every
// row is read and fits the context before the first is answered: Error names the line that is not
// or does not. Each answer is that of its prompt alone. A signal keeps what is finished (exit 75):
// beside --output, where the same call goes on, or what stands on stdout already.
Outcome complete_rows(const Options& options, const OpenedModel& opened, const Tokenizer& tokenizer,
                      const PromptWriter& writer, const GenerateOptions& how);

}  // namespace mullion
