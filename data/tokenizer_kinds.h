// The two kinds of tokenizer behind make_tokenizer. Private to data/: users hold a Tokenizer.
#pragma once
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "data/bpe_merge.h"
#include "data/tokenizer.h"

namespace mullion {

// Both take parts that make_tokenizer has checked and completed.
std::unique_ptr<Tokenizer> make_sentencepiece_tokenizer(TokenizerParts parts);
std::unique_ptr<Tokenizer> make_byte_level_tokenizer(TokenizerParts parts);

constexpr uint64_t kMostTokenizerBytes = 64 << 20;  // of a file

// Of a Hugging Face folder, behind load_tokenizer.
TokenizerParts tokenizer_parts(const std::filesystem::path& folder);

// What a GGUF file does not say and its reader takes from names: whether a word of the vocabulary
// needs no merges, by the name of the pre-tokenizer, and control tokens whose texts end a text.
bool ignores_merges(const std::string& pre);
std::vector<int32_t> ends_by_text(const TokenizerParts& parts);

// llama: the merges that the scores stand for, "left right": every pair of normal tokens that joins
// to one, those of higher scores first, as SentencePiece merges.
std::vector<std::string> merges_of_scores(const TokenizerParts& parts);

// The pairs of parts().merges by their ids; a merge that names an absent token is refused.
class MergeTable {
 public:
  explicit MergeTable(const Tokenizer& tokenizer);
  bool empty() const { return merges_.empty(); }
  BpeMerge find(int32_t left, int32_t right) const {
    auto found = merges_.find(key(left, right));
    return found == merges_.end() ? BpeMerge{} : found->second;
  }

 private:
  static uint64_t key(int32_t left, int32_t right) {
    return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
  }
  std::unordered_map<uint64_t, BpeMerge> merges_;
};

}  // namespace mullion
