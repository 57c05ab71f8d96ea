// The bytes of an unfinished character wait for the next token.
#include "data/text_stream.h"

#include <utility>

namespace mullion {
namespace {

// Bytes at the end of a text that begin a character and do not end it.
size_t open_bytes(std::string_view text) {
  for (size_t back = 1; back <= 3 && back <= text.size(); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue;  // inside a character
    const size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
    return length > back ? back : 0;
  }
  return 0;
}

}  // namespace

std::string TextStream::push(int32_t id) {
  DecodeOptions options = options_;
  options.strip_space_prefix = strips_;
  const std::string piece = tokenizer_.decode({&id, 1}, options);
  // As decode: at the start of the text alone.
  const TokenizerParts& parts = tokenizer_.parts();
  const TokenType type = tokenizer_.type(id);
  const bool special =
      type == TokenType::control || (type == TokenType::unknown && parts.unknown_text.empty());
  strips_ = strips_ && piece.empty() && (special || parts.remove_extra_spaces);
  pending_ += piece;
  const size_t whole = pending_.size() - open_bytes(pending_);
  std::string text = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return text;
}

std::string TextStream::finish() { return std::exchange(pending_, {}); }

}  // namespace mullion
