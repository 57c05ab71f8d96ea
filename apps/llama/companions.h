// What stands beside the weights in a folder that is a model by itself: the tokenizer, the
// settings of generation, the chat template.
#pragma once
#include <filesystem>

namespace mullion {

// Finds out before a long run whether write_companions will do: a GGUF file's tokenizer that no
// folder can hold is an error, one that has none a warning.
void check_companions(const std::filesystem::path& base);
// Copies them from the base's folder as they are, or makes them from what a GGUF file carries.
void write_companions(const std::filesystem::path& base, const std::filesystem::path& folder);

}  // namespace mullion
