// Headers one after another; long names of GNU and pax are kept for the member they stand before.
#include "data/tar.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "data/decode.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

constexpr uint64_t kBlock = 512, kMostName = 1 << 16, kChunk = 1 << 16;

// Fields of a header: place and length.
struct Field {
  size_t at, length;
};
constexpr Field kName{0, 100}, kSize{124, 12}, kChecksum{148, 8}, kMagic{257, 6}, kPrefix{345, 155};
constexpr size_t kType = 156;

std::string_view text_of(const char* block, Field field) {
  const std::string_view all(block + field.at, field.length);
  return all.substr(0, std::min(all.find('\0'), all.size()));
}

// Octal digits between spaces, ended by a space, a zero or the field; or, in GNU's way, a binary
// number behind a byte of 0x80. Nothing: another thing stands there.
std::optional<uint64_t> number_of(const char* block, Field field) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(block) + field.at;
  if (bytes[0] == 0x80) {
    uint64_t value = 0;
    for (size_t i = 1; i < field.length; ++i) {
      if (value >> 55 != 0) return {};
      value = value << 8 | bytes[i];
    }
    return value;
  }
  std::string_view digits = text_of(block, field);
  digits.remove_prefix(std::min(digits.find_first_not_of(' '), digits.size()));
  const size_t end = digits.find(' ');
  digits = digits.substr(0, end);
  return number_in<uint64_t>(digits, 8);
}

uint64_t checksum_of(const char* block) {
  uint64_t sum = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    const bool own = i >= kChecksum.at && i < kChecksum.at + kChecksum.length;
    sum += own ? ' ' : static_cast<uint8_t>(block[i]);
  }
  return sum;
}

// Why a name must not be used; "" where it may.
std::string fault_of(std::string_view name) {
  if (name.empty()) return "an empty name";
  if (name.front() == '/') return "an absolute name";
  while (!name.empty()) {
    const size_t slash = name.find('/');
    if (name.substr(0, slash) == "..") return "a name with \"..\"";
    name = slash == std::string_view::npos ? "" : name.substr(slash + 1);
  }
  return "";
}

const char* kind_of(char type) {
  switch (type) {
    case '1':
      return "a hard link";
    case '2':
      return "a symbolic link";
    case '3':
    case '4':
      return "a device";
    case '6':
      return "a pipe";
    case 'S':
      return "a sparse file";
    default:
      return "a member of an unknown type";
  }
}

}  // namespace

struct TarReader::Extended {
  std::string name;
  std::optional<uint64_t> size;
  std::string link;
};

TarReader::TarReader(const ByteSource& source, uint64_t begin, uint64_t size, std::string name)
    : source_(source), begin_(begin), end_(begin + size), at_(begin), name_(std::move(name)) {
  DCHECK(begin <= source.size() && size <= source.size() - begin);
  CHECK_AS(Fault::bad_file, size > 0, name_, ": empty file");
}

TarReader::TarReader(const ByteSource& source)
    : TarReader(source, 0, source.size(), printable(source.name())) {}

void TarReader::wrong(uint64_t at, const std::string& what) const {
  fail(Fault::bad_file, name_, ": byte ", at - begin_, ": ", what);
}

std::string TarReader::read_text(uint64_t at, uint64_t size) const {
  if (size > kMostName) wrong(at, concat("a name or header of ", size, " bytes"));
  std::string text(size, '\0');
  source_.read_at(at, std::as_writable_bytes(std::span(text)));
  return text;
}

// Records "LENGTH KEY=VALUE\n".
void TarReader::read_pax(uint64_t at, uint64_t size, Extended& extended) const {
  const std::string text = read_text(at, size);
  std::string_view rest = text;
  while (!rest.empty()) {
    size_t length = 0;
    const auto [stop, error] = std::from_chars(rest.data(), rest.data() + rest.size(), length);
    const auto digits = static_cast<size_t>(stop - rest.data());
    if (error != std::errc() || length > rest.size() || length < digits + 3 || *stop != ' ' ||
        rest[length - 1] != '\n')
      wrong(at, "a pax header that cannot be read");
    const std::string_view record = rest.substr(digits + 1, length - digits - 2);
    rest.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) wrong(at, "a pax header that cannot be read");
    const std::string_view key = record.substr(0, equals), value = record.substr(equals + 1);
    if (key == "path") extended.name = value;
    if (key == "linkpath") extended.link = value;
    if (key.starts_with("GNU.sparse")) wrong(at, "a sparse file");
    if (key == "size") {
      extended.size = number_in<uint64_t>(value);
      if (!extended.size) wrong(at, "a pax header with a size that is no number");
    }
  }
}

// A first zero block stands at `at`: a second one, and zeros up to the archive's end.
void TarReader::check_end(uint64_t at) const {
  if (end_ - at < 2 * kBlock) wrong(at, "one zero block where two close an archive: it is cut");
  std::vector<char> zeros(kChunk);
  for (uint64_t from = at + kBlock; from < end_; from += zeros.size()) {
    zeros.resize(std::min(kChunk, end_ - from));
    source_.read_at(from, std::as_writable_bytes(std::span(zeros)));
    const auto other = std::find_if(zeros.begin(), zeros.end(), [](char c) { return c != 0; });
    if (other == zeros.end()) continue;
    const uint64_t found = from + static_cast<uint64_t>(other - zeros.begin());
    wrong(at, concat("a zero block, as at the end, but more follows at byte ", found - begin_,
                     ": the archive is damaged, or others were appended to it"));
  }
}

bool TarReader::next(TarMember& member) {
  Extended extended;
  for (;;) {
    const uint64_t at = at_;
    if (end_ - at < kBlock)
      wrong(at, at == end_ ? "the archive ends without its closing zero blocks: it is cut"
                           : "the archive is cut in a header");
    char block[kBlock];
    source_.read_at(at, std::as_writable_bytes(std::span(block)));
    if (std::all_of(block, block + kBlock, [](char c) { return c == 0; })) {
      check_end(at);
      return false;
    }
    const auto stored = number_of(block, kChecksum);
    if (!stored || *stored != checksum_of(block)) {
      if (at == begin_) wrong(at, "no tar archive (a header with a wrong checksum)");
      wrong(at, "a header with a wrong checksum");
    }
    const auto size = number_of(block, kSize);
    if (!size) wrong(at, "a size that is no number");
    const char type = block[kType];
    const bool meta = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    const uint64_t bytes = meta ? *size : extended.size.value_or(*size);
    const bool folder = type == '5';
    const uint64_t content = at + kBlock, left = end_ - content;
    std::string name = extended.name;
    if (name.empty()) {
      name = text_of(block, kName);
      // GNU's own format has other things where ustar has the prefix.
      const bool ustar = std::memcmp(block + kMagic.at, "ustar\0", kMagic.length) == 0;
      if (const auto prefix = text_of(block, kPrefix); ustar && !prefix.empty())
        name = concat(prefix, "/", name);
    }
    const std::string shown = printable(name);
    if (bytes > left || (bytes + kBlock - 1) / kBlock * kBlock > left)
      wrong(at, concat(shown, " has ", bytes, " bytes and the archive only ", left,
                       " more: it is cut, or the size is wrong"));
    at_ = content + (bytes + tar_padding(bytes));
    if (type == 'L') {
      extended.name = read_text(content, bytes);
      extended.name.resize(std::min(extended.name.find('\0'), extended.name.size()));
      continue;
    }
    if (type == 'x') {
      read_pax(content, bytes, extended);
      continue;
    }
    if (type == 'g') {
      Extended global;
      read_pax(content, bytes, global);
      if (!global.name.empty() || global.size) wrong(at, "a pax header that names all members");
      continue;
    }
    if (const std::string fault = fault_of(name); !fault.empty())
      wrong(at, concat(fault, ", ", shown, ": nothing is read from such an archive"));
    if (folder) {
      extended = {};
      continue;
    }
    if (type != '0' && type != '\0' && type != '7')
      wrong(at, concat(shown, " is ", kind_of(type), ", which is not followed"));
    while (name.starts_with("./")) name.erase(0, 2);
    if (name.empty() || name.back() == '/' || name.find('\0') != std::string::npos)
      wrong(at, concat(shown, " is no name of a file"));
    member = {std::move(name), content, bytes};
    return true;
  }
}

std::string tar_header(const std::string& name, uint64_t size) {
  CHECK(!name.empty() && name.size() <= kName.length, "tar: a name of ", name.size(), " bytes");
  CHECK(size < uint64_t{1} << 33, "tar: a member of ", size, " bytes");
  std::string block(kBlock, '\0');
  const auto put = [&](size_t at, std::string_view text) {
    std::copy(text.begin(), text.end(), block.begin() + static_cast<ptrdiff_t>(at));
  };
  char octal[16];
  put(0, name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  std::snprintf(octal, sizeof octal, "%011llo", static_cast<unsigned long long>(size));
  put(kSize.at, octal);
  put(136, "00000000000");
  put(kType, "0");
  put(kMagic.at, std::string_view("ustar\00000", 8));
  put(265, "root");
  put(297, "root");
  std::snprintf(octal, sizeof octal, "%06llo",
                static_cast<unsigned long long>(checksum_of(block.data())));
  put(kChecksum.at, std::string_view(octal, 7));
  block[kChecksum.at + 7] = ' ';
  return block;
}

bool is_tar_header(const char* block, uint64_t size) {
  const auto stored = number_of(block, kChecksum);
  if (!stored || *stored != checksum_of(block)) return false;
  const auto found = number_of(block, kSize);
  const char type = block[kType];
  return found && *found == size && (type == '0' || type == '\0' || type == '7');
}

}  // namespace mullion
