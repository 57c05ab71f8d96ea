// Token files as --data names them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "apps/options/options.h"
#include "data/token_file.h"

namespace mullion {

// --token-dtype u16|u32, and what it says.
void add_token_dtype(OptionTable& table);
TokenFileOptions token_file_options(const Options& options, int64_t vocab_size);
// The files that patterns like "tokens/*.bin" stand for, sorted by name within each pattern.
// Error(bad_file) for a pattern that matches none.
std::vector<std::string> matching_files(const std::vector<std::string>& patterns);
// Says which files stand in a list more than once, by any name, and so are taken more than once.
void warn_of_repeats(const std::vector<std::filesystem::path>& files);

// Error(bad_file) where the side file names another tokenizer than `hash`, the model's; an empty
// hash stands for a model without one.
void require_same_tokenizer(const TokenFile& file, const std::string& hash);

}  // namespace mullion
