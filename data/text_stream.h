// The text of tokens that come one by one, in whole UTF-8 characters: a character may be spread
// over several tokens. The pieces together are what Tokenizer::decode gives for all ids, in time
// linear in their number.
#pragma once
#include "data/tokenizer.h"

namespace mullion {

class TextStream {
 public:
  explicit TextStream(const Tokenizer& tokenizer, const DecodeOptions& options = {})
      : tokenizer_(tokenizer), options_(options), strips_(options.strip_space_prefix) {}
  // The characters that are complete now; may be empty.
  std::string push(int32_t id);
  // What is left of a character that was never completed.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  DecodeOptions options_;
  bool strips_;  // whether the next text loses the space that encode put in front
  std::string pending_;
};

}  // namespace mullion
