// A tokenizer as the files of a Hugging Face folder, for a model whose own file was GGUF:
// tokenizer.json, for SentencePiece BPE tokenizer.model as well (llama.cpp reads it), and
// tokenizer_config.json with the special tokens, what stands around a text, and the chat template.
#pragma once
#include <filesystem>
#include <map>
#include <string>

#include "data/tokenizer.h"

namespace mullion {

// File names and contents. Error(bad_file) where Hugging Face's format has no words for it: the
// pre-tokenizer "default" of llama.cpp, a SentencePiece vocabulary without an unknown token.
std::map<std::string, std::string> tokenizer_files(const Tokenizer& tokenizer);
// Writes them into an existing folder and reads them back: a folder that would mean another
// tokenizer is an error.
void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder);

}  // namespace mullion
