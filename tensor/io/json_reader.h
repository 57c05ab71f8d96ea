// A strict pull reader of JSON text (RFC 8259): the caller asks for what it expects next, and a
// value is never held twice. Refused: anything the grammar does not allow, nesting beyond a limit,
// bytes that are not UTF-8, lone surrogates, numbers too large for an f64, text after the value.
// It is what reads the headers of safetensors files, where a tree would cost many times the text.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

// One number of the text. Integers that fit 64 bits keep their exact value in `magnitude`;
// fractions, exponents, "-0" and integers that do not fit have `integer` false.
struct JsonNumber {
  bool integer = false;
  bool negative = false;
  uint64_t magnitude = 0;
  double value = 0;
};

class JsonReader {
 public:
  enum class Kind { null, boolean, number, string, array, object };

  // `text` must outlive the reader; `file` is the name put into errors.
  JsonReader(std::string_view text, std::string file, int max_depth = 64);

  Kind peek();  // of the value that comes next

  void begin_object();
  bool next_key(std::string& key);  // false: the object has ended
  void begin_array();
  bool next_element();  // false: the array has ended

  void read_null();
  bool read_bool();
  JsonNumber read_number();
  std::string read_string();
  uint64_t read_uint();  // an integer of 0 or more, written without fraction, exponent or sign
  void finish();         // nothing but white space may follow

  // Throws Error(bad_file) "FILE: byte N: what".
  [[noreturn]] void fail(std::string_view what) const;

 private:
  void skip_space();
  char next_char();  // the next non-space character, not consumed; 0 at the end
  void expect(char c, std::string_view what);
  void literal(std::string_view word);
  void push(bool object);
  bool next_item(char close);
  void read_escape(std::string& out);
  uint32_t read_hex4();
  void read_utf8(std::string& out);
  JsonNumber exact_or_float(std::string_view token, bool integer) const;

  std::string_view text_;
  std::string file_;
  size_t at_ = 0;
  size_t max_depth_;
  std::vector<bool> first_;  // per open container: no element read yet
};

}  // namespace mullion
