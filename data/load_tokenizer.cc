// By what the path is: a folder, or a file of one of three kinds.
#include "data/tokenizer_kinds.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/gguf.h"

namespace mullion {
namespace {

using std::filesystem::path;

TokenizerParts read_parts(const path& file) {
  if (is_directory(file)) return tokenizer_parts(file);
  if (is_gguf(file)) return tokenizer_parts(GgufFile(file));
  const std::string bytes = read_whole_file(file, kMostTokenizerBytes);
  return file.extension() == ".json" ? parse_tokenizer_json(bytes, file.string())
                                     : parse_sentencepiece_model(bytes, file.string());
}

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer(const path& file) {
  TokenizerParts parts = read_parts(file);
  try {
    return make_tokenizer(std::move(parts));
  } catch (const Error& error) {
    throw error.in(file.string());
  }
}

}  // namespace mullion
