// The grammar of RFC 8259, one function a production; recursion is the caller's, bounded by depth.
#include "tensor/io/json_reader.h"

#include <charconv>
#include <cmath>
#include <cstdlib>

#include "tensor/check.h"

namespace mullion {

namespace {
bool is_digit(char c) { return c >= '0' && c <= '9'; }

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | (code >> 6));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | (code >> 12));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | (code >> 18));
    out += static_cast<char>(0x80 | ((code >> 12) & 0x3f));
    out += static_cast<char>(0x80 | ((code >> 6) & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}
}  // namespace

JsonReader::JsonReader(std::string_view text, std::string file, int max_depth)
    : text_(text), file_(std::move(file)), max_depth_(static_cast<size_t>(max_depth)) {}

void JsonReader::fail(std::string_view what) const {
  ::mullion::fail(Fault::bad_file, file_, ": byte ", at_, ": ", what);
}

void JsonReader::skip_space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\r' || text_[at_] == '\t')) {
    ++at_;
  }
}

char JsonReader::next_char() {
  skip_space();
  return at_ < text_.size() ? text_[at_] : '\0';
}

void JsonReader::expect(char c, std::string_view what) {
  if (next_char() != c) fail(concat("expected ", what));
  ++at_;
}

void JsonReader::literal(std::string_view word) {
  skip_space();
  if (text_.substr(at_, word.size()) != word) fail(concat("expected ", word));
  at_ += word.size();
}

JsonReader::Kind JsonReader::peek() {
  const char c = next_char();
  switch (c) {
    case '{':
      return Kind::object;
    case '[':
      return Kind::array;
    case '"':
      return Kind::string;
    case 't':
    case 'f':
      return Kind::boolean;
    case 'n':
      return Kind::null;
    default:
      if (c == '-' || is_digit(c)) return Kind::number;
      fail(at_ >= text_.size() ? "the text ends where a value was expected" : "expected a value");
  }
}

void JsonReader::push(bool object) {
  expect(object ? '{' : '[', object ? "an object" : "an array");
  if (first_.size() >= max_depth_) fail(concat("nested deeper than ", max_depth_));
  first_.push_back(true);
}

void JsonReader::begin_object() { push(true); }
void JsonReader::begin_array() { push(false); }

bool JsonReader::next_item(char close) {
  DCHECK(!first_.empty());
  const bool first = first_.back();
  if (next_char() == close) {
    ++at_;
    first_.pop_back();
    return false;
  }
  if (!first) expect(',', close == '}' ? "',' or '}'" : "',' or ']'");
  first_.back() = false;
  return true;
}

bool JsonReader::next_key(std::string& key) {
  if (!next_item('}')) return false;
  if (next_char() != '"') fail("expected a key");
  key = read_string();
  expect(':', "':' after the key");
  return true;
}

bool JsonReader::next_element() { return next_item(']'); }

void JsonReader::read_null() { literal("null"); }

bool JsonReader::read_bool() {
  const bool value = next_char() == 't';
  literal(value ? "true" : "false");
  return value;
}

uint32_t JsonReader::read_hex4() {
  uint32_t code = 0;
  if (text_.size() - at_ < 4) fail("cut inside an escape");
  const char* begin = text_.data() + at_;
  const auto [end, error] = std::from_chars(begin, begin + 4, code, 16);
  if (error != std::errc() || end != begin + 4) fail("expected four hexadecimal digits after \\u");
  at_ += 4;
  return code;
}

void JsonReader::read_escape(std::string& out) {
  if (at_ >= text_.size()) fail("cut inside a string");
  const char c = text_[at_++];
  constexpr std::string_view kNames = "\"\\/bfnrt", kValues = "\"\\/\b\f\n\r\t";
  if (const size_t i = kNames.find(c); i != std::string_view::npos) {
    out += kValues[i];
    return;
  }
  if (c != 'u') fail("unknown escape");
  uint32_t code = read_hex4();
  if (code >= 0xdc00 && code < 0xe000) fail("a low surrogate without its high one");
  if (code >= 0xd800 && code < 0xdc00) {
    if (text_.substr(at_, 2) != "\\u") fail("a high surrogate without its low one");
    at_ += 2;
    const uint32_t low = read_hex4();
    if (low < 0xdc00 || low >= 0xe000) fail("a high surrogate without its low one");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(out, code);
}

// One character of two to four bytes: no overlong form, no surrogate, nothing above U+10FFFF.
void JsonReader::read_utf8(std::string& out) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text_[at_ + i]); };
  const uint8_t lead = byte(0);
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text_.size() - at_ < length) fail("not UTF-8");
  const uint8_t low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (byte(1) < low || byte(1) > high) fail("not UTF-8");
  for (size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) fail("not UTF-8");
  }
  out.append(text_.substr(at_, length));
  at_ += length;
}

std::string JsonReader::read_string() {
  expect('"', "a string");
  std::string out;
  while (true) {
    const size_t run = at_;
    while (at_ < text_.size() && static_cast<uint8_t>(text_[at_]) >= 0x20 &&
           static_cast<uint8_t>(text_[at_]) < 0x80 && text_[at_] != '"' && text_[at_] != '\\') {
      ++at_;
    }
    out.append(text_.substr(run, at_ - run));
    if (at_ >= text_.size()) fail("cut inside a string");
    const char c = text_[at_];
    if (c == '"') break;
    if (static_cast<uint8_t>(c) < 0x20) fail("a control character inside a string");
    if (c == '\\') {
      ++at_;
      read_escape(out);
    } else {
      read_utf8(out);
    }
  }
  ++at_;
  return out;
}

JsonNumber JsonReader::read_number() {
  if (const char c = next_char(); c != '-' && !is_digit(c)) fail("expected a number");
  const size_t start = at_;
  const auto digits = [&] {
    const size_t from = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    if (at_ == from) fail("a digit is missing in a number");
    return at_ - from;
  };
  if (text_[at_] == '-') ++at_;
  const bool zero = at_ < text_.size() && text_[at_] == '0';
  if (digits() > 1 && zero) fail("a number starts with 0");
  bool integer = true;
  if (at_ < text_.size() && text_[at_] == '.') {
    integer = false;
    ++at_;
    digits();
  }
  if (at_ < text_.size() && (text_[at_] == 'e' || text_[at_] == 'E')) {
    integer = false;
    ++at_;
    if (at_ < text_.size() && (text_[at_] == '+' || text_[at_] == '-')) ++at_;
    digits();
  }
  return exact_or_float(text_.substr(start, at_ - start), integer);
}

JsonNumber JsonReader::exact_or_float(std::string_view token, bool integer) const {
  JsonNumber number;
  number.negative = token.front() == '-';
  const char* const end = token.data() + token.size();
  if (integer) {
    const auto result = std::from_chars(token.data() + number.negative, end, number.magnitude);
    const uint64_t limit = number.negative ? uint64_t{1} << 63 : UINT64_MAX;
    number.integer = result.ec == std::errc() && number.magnitude <= limit &&
                     !(number.negative && number.magnitude == 0);
  }
  const auto result = std::from_chars(token.data(), end, number.value);
  if (result.ec == std::errc::result_out_of_range) {  // too large, or so small that it is 0
    number.value = std::strtod(std::string(token).c_str(), nullptr);
  }
  if (!std::isfinite(number.value)) fail("a number beyond the range of an f64");
  return number;
}

uint64_t JsonReader::read_uint() {
  const JsonNumber number = read_number();
  if (!number.integer || number.negative) fail("expected an integer of 0 or more");
  return number.magnitude;
}

void JsonReader::finish() {
  skip_space();
  if (at_ != text_.size()) fail("text after the end of the JSON value");
}

}  // namespace mullion
