// Two tables, each made once: byte to character and back.
#include "data/byte_level.h"

#include "data/utf8.h"

namespace mullion {

const std::array<uint16_t, 256>& byte_level_alphabet() {
  static const std::array<uint16_t, 256> table = [] {
    std::array<uint16_t, 256> codes{};
    uint16_t next = 256;
    for (int b = 0; b < 256; ++b) {
      bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b != 0xAD);
      codes[b] = printable ? static_cast<uint16_t>(b) : next++;
    }
    return codes;
  }();
  return table;
}

std::optional<std::string> byte_level_decode(std::string_view text) {
  static const std::array<int16_t, 512> byte_of = [] {
    std::array<int16_t, 512> bytes;
    bytes.fill(-1);
    for (int b = 0; b < 256; ++b) bytes[byte_level_alphabet()[b]] = static_cast<int16_t>(b);
    return bytes;
  }();
  std::string out;
  for (size_t at = 0; at < text.size();) {
    size_t length = utf8_character(text.substr(at));
    if (length == 0 || length > 2) return std::nullopt;
    auto first = static_cast<uint8_t>(text[at]);
    unsigned code = length == 1 ? first : (first & 31u) << 6 | (text[at + 1] & 63u);
    if (code >= byte_of.size() || byte_of[code] < 0) return std::nullopt;
    out += static_cast<char>(byte_of[code]);
    at += length;
  }
  return out;
}

std::string byte_level_encode(std::string_view bytes) {
  std::string out;
  for (char c : bytes) append_utf8(out, byte_level_alphabet()[static_cast<uint8_t>(c)]);
  return out;
}

}  // namespace mullion
