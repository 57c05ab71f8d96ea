// A decoder an encoding, each of which stops at the first byte that does not fit.
#include "data/text_encoding.h"

#include <array>

#include "data/utf8.h"
#include "tensor/check.h"

namespace mullion {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kUtf8Mark = "\xEF\xBB\xBF";
constexpr const char* kOtherEncodings =
    "--encoding latin1 reads Latin-1 (ISO 8859-1), utf-16 reads UTF-16";
constexpr const char* kNoText = "text is UTF-8 without NUL";

struct Magic {
  std::string_view start;
  const char* kind;
};
constexpr std::array kMagics = {
    Magic{"%PDF-"sv, "a PDF document"},
    Magic{"PK\x03\x04"sv, "a ZIP archive (.zip, .docx, .odt, .epub, .npz or .pt)"},
    Magic{"\x1F\x8B"sv, "gzip data"},
    Magic{"BZh"sv, "bzip2 data"},
    Magic{"\xFD\x37zXZ"sv, "xz data"},
    Magic{"\x28\xB5\x2F\xFD"sv, "zstd data"},
    Magic{"\x89PNG"sv, "a PNG image"},
    Magic{"\xFF\xD8\xFF"sv, "a JPEG image"},
    Magic{"GIF8"sv, "a GIF image"},
    Magic{"GGUF"sv, "a GGUF model"},
    Magic{"PAR1"sv, "a Parquet table"},
    Magic{"ARROW1"sv, "an Arrow file"},
    Magic{"\x93NUMPY"sv, "a NumPy array (.npy)"},
    Magic{"\x89HDF"sv, "an HDF5 file"},
    Magic{"SQLite format 3"sv, "an SQLite database"},
    Magic{"{\\rtf"sv, "an RTF document"},
    Magic{"%!PS"sv, "a PostScript document"},
    Magic{"\xD0\xCF\x11\xE0"sv, "a Microsoft Office document of the old kind"},
    Magic{"\x7F"
          "ELF"sv,
          "a program"},
};

[[noreturn]] void refuse(const std::string& name, uint64_t at, const std::string& what,
                         const char* hint) {
  throw NotText(concat(name, ": byte ", at, what), Fault::bad_file, hint);
}

std::string byte_text(char c) {
  static const char* const kHex = "0123456789ABCDEF";
  const auto byte = static_cast<uint8_t>(c);
  return {'0', 'x', kHex[byte >> 4], kHex[byte & 15]};
}

void check_utf8(std::string_view text, const std::string& name, uint64_t offset) {
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_character(text.substr(at));
    if (length == 0)
      refuse(name, offset + at, concat(" (", byte_text(text[at]), ") is not UTF-8"),
             kOtherEncodings);
    if (text[at] == '\0') refuse(name, offset + at, " is NUL, which no text has", kNoText);
    at += length;
  }
}

std::string from_latin1(std::string_view bytes, const std::string& name, uint64_t offset) {
  std::string text;
  text.reserve(bytes.size() + bytes.size() / 8);
  for (size_t at = 0; at < bytes.size(); ++at) {
    if (bytes[at] == '\0') refuse(name, offset + at, " is NUL, which no text has", kNoText);
    append_utf8(text, static_cast<uint8_t>(bytes[at]));
  }
  return text;
}

std::string from_utf16(std::string_view bytes, bool big, const std::string& name, size_t begin) {
  if (bytes.size() % 2 != 0)
    refuse(name, bytes.size() - 1, " is half a character of UTF-16", kOtherEncodings);
  const auto unit = [&](size_t at) -> uint32_t {
    if (at >= bytes.size()) return 0;
    const auto a = static_cast<uint8_t>(bytes[at]), b = static_cast<uint8_t>(bytes[at + 1]);
    return big ? a << 8 | b : b << 8 | a;
  };
  std::string text;
  for (size_t at = begin; at < bytes.size(); at += 2) {
    uint32_t code = unit(at);
    if (code == 0) refuse(name, at, " is a character NUL, which no text has", kNoText);
    if (code >= 0xD800 && code < 0xE000) {
      const uint32_t low = unit(at + 2);
      if (code >= 0xDC00 || low < 0xDC00 || low >= 0xE000)
        refuse(name, at, " is half a surrogate pair of UTF-16", kOtherEncodings);
      code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
      at += 2;
    }
    append_utf8(text, code);
  }
  return text;
}

}  // namespace

TextEncoding text_encoding(const std::string& name) {
  if (name == "utf-8") return TextEncoding::utf8;
  if (name == "latin1") return TextEncoding::latin1;
  if (name == "utf-16") return TextEncoding::utf16;
  if (name == "utf-16le") return TextEncoding::utf16le;
  if (name == "utf-16be") return TextEncoding::utf16be;
  fail(Fault::usage, "unknown text encoding '", name, "'");
}

std::string binary_kind(std::string_view head) {
  if (head.starts_with("RIFF") && head.substr(std::min<size_t>(8, head.size())).starts_with("WEBP"))
    return "a WebP image";
  for (const Magic& magic : kMagics)
    if (head.starts_with(magic.start)) return magic.kind;
  return "";
}

std::string decode_text(std::string bytes, TextEncoding encoding, const std::string& name,
                        uint64_t offset) {
  const std::string_view view = bytes;
  const bool little = view.starts_with("\xFF\xFE"sv), big = view.starts_with("\xFE\xFF"sv);
  if (offset == 0) {
    const std::string kind = binary_kind(view);
    if (!kind.empty())
      throw Error(concat(name, ": ", kind, ", not a text"), Fault::bad_file,
                  "extract its text to a UTF-8 file");
    const bool wide = encoding != TextEncoding::utf8 && encoding != TextEncoding::latin1;
    const bool utf32 = view.starts_with("\xFF\xFE\0\0"sv) || view.starts_with("\0\0\xFE\xFF"sv);
    CHECK_AS(Fault::bad_file, !utf32, name, ": UTF-32 by its byte-order mark, which is not read");
    if (!wide && (little || big))
      throw Error(concat(name, ": UTF-16 by its byte-order mark"), Fault::bad_file,
                  "--encoding utf-16 reads it");
    if (encoding == TextEncoding::latin1 && view.starts_with(kUtf8Mark))
      throw Error(concat(name, ": UTF-8 by its byte-order mark, read as Latin-1"), Fault::bad_file,
                  "leave --encoding latin1 out");
  }
  switch (encoding) {
    case TextEncoding::utf8: {
      const bool marked = offset == 0 && view.starts_with(kUtf8Mark);
      check_utf8(view, name, offset);
      if (marked) bytes.erase(0, kUtf8Mark.size());
      return bytes;
    }
    case TextEncoding::latin1:
      return from_latin1(view, name, offset);
    case TextEncoding::utf16:
      if (!little && !big && !view.empty())
        throw Error(concat(name, ": no byte-order mark, which would tell UTF-16's two forms apart"),
                    Fault::bad_file, "--encoding utf-16le or utf-16be");
      return from_utf16(view, big, name, 2);
    case TextEncoding::utf16le:
      CHECK_AS(Fault::bad_file, !big, name, ": big-endian by its byte-order mark");
      return from_utf16(view, false, name, little ? 2 : 0);
    default:
      CHECK_AS(Fault::bad_file, !little, name, ": little-endian by its byte-order mark");
      return from_utf16(view, true, name, big ? 2 : 0);
  }
}

std::string decode_utf8(std::string bytes, const std::string& name) {
  try {
    return decode_text(std::move(bytes), TextEncoding::utf8, name);
  } catch (const Error& error) {
    throw Error(error.what(), error.fault(), "only UTF-8 is read here");
  }
}

}  // namespace mullion
