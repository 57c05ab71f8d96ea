// Cuts a text into the words within which byte-level BPE may merge. Only the patterns of known
// tokenizers are offered: a file names one and never brings a regular expression of its own.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

class PreTokenizer {
 public:
  // `pre` is llama-bpe, smollm, starcoder, gpt-2 or default, as in tokenizer.ggml.pre; others are
  // refused by name.
  explicit PreTokenizer(const std::string& pre);
  ~PreTokenizer();

  // Appends the words of any bytes, in order and without gaps: they join to the text again.
  // Stretches that are not UTF-8 are words of their own.
  void split(std::string_view text, std::vector<std::string_view>& words) const;

 private:
  class Pattern;
  std::vector<std::unique_ptr<Pattern>> patterns_;
};

// The `pre` whose Hugging Face pre-tokenizer is Split by this regular expression; empty: unknown.
std::string pre_of_split_regex(std::string_view regex);

}  // namespace mullion
