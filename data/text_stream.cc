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
  pending_ += tokenizer_.decode({&id, 1}, options);
  strips_ = tokenizer_.type(id) == TokenType::control && options_.strip_space_prefix &&
            tokenizer_.parts().prefix_after_control;
  const size_t whole = pending_.size() - open_bytes(pending_);
  std::string text = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return text;
}

std::string TextStream::finish() { return std::exchange(pending_, {}); }

}  // namespace mullion
