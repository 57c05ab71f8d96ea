// A tokenizer in the files of others. As those of a Hugging Face folder, for a model whose own file
// was GGUF:
// tokenizer.json, for SentencePiece BPE tokenizer.model as well (llama.cpp reads it), and
// tokenizer_config.json with the special tokens, what stands around a text, and the chat template.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "tensor/io/gguf_writer.h"

namespace mullion {

// File names and contents. Error(bad_file) where Hugging Face's format has no words for it: the
// pre-tokenizer "default" of llama.cpp, a SentencePiece vocabulary without an unknown token.
std::map<std::string, std::string> tokenizer_files(const Tokenizer& tokenizer);
// Writes them into an existing folder and reads them back: a folder that would mean another
// tokenizer is an error.
void write_tokenizer(const Tokenizer& tokenizer, const std::filesystem::path& folder);

// The tokenizer.ggml.* keys of a GGUF file for a model with `rows` rows in its embedding; rows
// beyond the tokenizer become unused tokens. Returns what llama.cpp will do differently, a sentence
// each. Error(bad_file) where it would make other tokens of ordinary text: merges that no scores
// stand for.
std::vector<std::string> add_tokenizer(GgufPairs& pairs, const Tokenizer& tokenizer, int64_t rows);

}  // namespace mullion
