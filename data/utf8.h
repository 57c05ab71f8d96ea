// Steps through bytes that claim to be UTF-8 (RFC 3629: no overlong forms, no surrogates).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mullion {

// Bytes of the well-formed character at the start of `text` (1 to 4); 0 where there is none.
inline size_t utf8_character(std::string_view text) {
  auto byte = [&](size_t i) { return i < text.size() ? static_cast<uint8_t>(text[i]) : 0u; };
  auto tail = [&](size_t i) { return (byte(i) & 0xC0) == 0x80; };
  if (text.empty()) return 0;
  unsigned b = byte(0), c = byte(1);
  if (b < 0x80) return 1;
  if (b < 0xC2 || b > 0xF4 || !tail(1)) return 0;
  if (b < 0xE0) return 2;
  if (!tail(2)) return 0;
  if (b < 0xF0) return (b == 0xE0 && c < 0xA0) || (b == 0xED && c > 0x9F) ? 0 : 3;
  return !tail(3) || (b == 0xF0 && c < 0x90) || (b == 0xF4 && c > 0x8F) ? 0 : 4;
}

// Bytes at the start of `text` that are well-formed characters: all of them, or up to the first
// byte that is none.
inline size_t utf8_prefix(std::string_view text) {
  size_t at = 0;
  while (const size_t size = utf8_character(text.substr(at))) at += size;
  return at;
}

// Characters of well-formed UTF-8.
inline size_t utf8_length(std::string_view text) {
  size_t length = 0;
  for (const char c : text) length += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  return length;
}

// Appends a code point below 0x110000.
inline void append_utf8(std::string& out, uint32_t code) {
  auto put = [&](uint32_t byte) { out += static_cast<char>(byte); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 63));
    put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  }
}

// A blank, a tab, or a break of lines or pages.
inline bool ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Without the spaces at its end; at both ends, as Python's strip() of ASCII.
inline std::string_view without_last_spaces(std::string_view text) {
  while (!text.empty() && ascii_space(text.back())) text.remove_suffix(1);
  return text;
}
inline std::string_view stripped(std::string_view text) {
  while (!text.empty() && ascii_space(text.front())) text.remove_prefix(1);
  return without_last_spaces(text);
}

// With small letters for the capitals of ASCII; all else stays.
inline std::string ascii_lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

}  // namespace mullion
