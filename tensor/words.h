// Lists of words as text, and back: for messages, tables, command lines and lists of names; numbers
// in a text.
#pragma once
#include <algorithm>
#include <charconv>
#include <concepts>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/check.h"

namespace mullion {

// "a, b, c": text_of(x) of each x in `list`, with `between` between them.
template <typename List, typename TextOf>
std::string joined(const List& list, std::string_view between, const TextOf& text_of) {
  std::string text;
  bool first = true;
  for (const auto& one : list) {
    if (!first) text += between;
    first = false;
    text += text_of(one);
  }
  return text;
}
template <typename List>
std::string joined(const List& list, std::string_view between = ", ") {
  return joined(list, between, [](const auto& one) { return concat(one); });
}

// The parts of a text at each `between`, empty ones among them: "a,,b" has three.
inline std::vector<std::string> split(std::string_view text, char between) {
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(between, begin), text.size());
    parts.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

// The words between blanks and line breaks, of a list that is written as one text.
inline std::vector<std::string> words_in(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> words;
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

// The number that the whole text is, from_chars' forms of it; none: it is another thing.
template <typename T>
std::optional<T> number_in(std::string_view text, std::same_as<int> auto... base) {
  T value{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, base...);
  return error == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

// Two small hexadecimal digits a byte.
inline std::string hex_of(std::string_view bytes) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[c & 15];
  }
  return text;
}

}  // namespace mullion
