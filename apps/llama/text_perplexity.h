// Perplexity of a text by the protocol of llama.cpp's llama-perplexity, for verbs that compare
// models rather than evaluate one.
#pragma once
#include <filesystem>

#include "apps/llama/perplexity.h"
#include "data/tokenizer.h"

namespace mullion {

// The ids of a text file, BOS first where the tokenizer says so.
std::vector<int32_t> text_ids(const Tokenizer& tokenizer, const std::filesystem::path& text);
// Disjoint windows of `context` tokens, their second halves scored; BOS first in each where the
// tokenizer says so. Error(usage) where the text is shorter than one.
Perplexity text_perplexity(const LanguageModel& model, const Tokenizer& tokenizer,
                           const std::vector<int32_t>& ids, int64_t context);

}  // namespace mullion
