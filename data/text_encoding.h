// Bytes of a text file to the UTF-8 that tokenizers take. Nothing is guessed: what is no text, or
// text in another encoding than was said, is refused with the place of the first byte that shows
// it.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "tensor/check.h"

namespace mullion {

// Bytes at a place of a file that the encoding does not have: the file may be no text at all.
struct NotText : Error {
  using Error::Error;
};

enum class TextEncoding { utf8, latin1, utf16, utf16le, utf16be };

// "utf-8", "latin1", "utf-16" (a byte-order mark says which), "utf-16le", "utf-16be".
TextEncoding text_encoding(const std::string& name);

// What the first bytes of a file say it is, "a PDF document"; "" for those of a text, or of a kind
// that is not known here.
std::string binary_kind(std::string_view head);

// The text of `bytes`, which stand at byte `offset` of the file `name`; a byte-order mark at its
// start is dropped. NotText(bad_file) names file, offset and what to do for bytes that the encoding
// does not have and for NUL; Error(bad_file) files of other kinds.
std::string decode_text(std::string bytes, TextEncoding encoding, const std::string& name,
                        uint64_t offset = 0);
// The same where nothing but UTF-8 is read: what is wrong, without the flags that would read it.
std::string decode_utf8(std::string bytes, const std::string& name);

}  // namespace mullion
