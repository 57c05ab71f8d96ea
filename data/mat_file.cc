// MAT-file format, level 5: a header of 128 bytes, then elements of (type, size, bytes). An array
// is an element that holds elements: flags, sizes, name, and what it has; a struct array has its
// fields' names and then one array a field of each element.
#include "data/mat_file.h"

#include <algorithm>
#include <cstring>

#include "tensor/check.h"

#ifdef MULLION_HAVE_ZLIB
#include <zlib.h>
#endif

namespace mullion {

#ifdef MULLION_HAVE_ZLIB
std::string unpack_zlib(std::string_view packed, uint64_t most, const std::string& name) {
  z_stream stream{};
  constexpr int kEitherHeader = 32 + 15;
  CHECK(inflateInit2(&stream, kEitherHeader) == Z_OK, name, ": zlib cannot start");
  std::string out;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  int state = Z_OK;
  while (state == Z_OK && out.size() <= most) {
    const size_t before = out.size();
    out.resize(before + (size_t{1} << 16));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + before);
    stream.avail_out = 1 << 16;
    state = inflate(&stream, Z_NO_FLUSH);
    out.resize(out.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  CHECK_AS(Fault::bad_file, out.size() <= most, name, ": unpacks to more than ", most, " bytes");
  CHECK_AS(Fault::bad_file, state == Z_STREAM_END, name,
           ": compressed data that are cut or damaged");
  return out;
}
#else
std::string unpack_zlib(std::string_view, uint64_t, const std::string& name) {
  fail(Fault::usage, name, ": this build has no zlib, which unpacks it");
}
#endif

namespace {

constexpr uint32_t kInt8 = 1, kUint8 = 2, kInt16 = 3, kUint16 = 4, kInt32 = 5, kUint32 = 6,
                   kDouble = 9, kMatrix = 14, kCompressed = 15, kUtf8 = 16;
constexpr uint8_t kStruct = 2, kChar = 4;
constexpr uint64_t kMostBytes = uint64_t{1} << 28;

struct Element {
  uint32_t type = 0;
  std::string_view bytes;
};

class Reader {
 public:
  Reader(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {}
  bool at_end() const { return rest_.empty(); }
  Element next() {
    check(rest_.size() >= 8);
    uint32_t head = 0, size = 0;
    std::memcpy(&head, rest_.data(), 4);
    if (head >> 16 != 0) {  // four bytes or less, in the place of the size
      size = head >> 16;
      check(size <= 4);
      const Element element{head & 0xFFFF, rest_.substr(4, size)};
      rest_.remove_prefix(8);
      return element;
    }
    std::memcpy(&size, rest_.data() + 4, 4);
    check(size <= rest_.size() - 8);
    const Element element{head, rest_.substr(8, size)};
    const size_t padded = head == kCompressed ? size : (size + size_t{7}) / 8 * 8;
    rest_.remove_prefix(std::min(8 + padded, rest_.size()));
    return element;
  }
  void check(bool good) const {
    CHECK_AS(Fault::bad_file, good, name_, ": no MAT-file of level 5, or a damaged one");
  }

 private:
  std::string_view rest_;
  const std::string& name_;
};

std::vector<double> numbers_of(const Element& e, const Reader& reader) {
  const auto read = [&]<typename T>(T) {
    std::vector<double> values(e.bytes.size() / sizeof(T));
    for (size_t i = 0; i < values.size(); ++i) {
      T value{};
      std::memcpy(&value, e.bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = static_cast<double>(value);
    }
    return values;
  };
  switch (e.type) {
    case kInt8:
      return read(int8_t{});
    case kUint8:
    case kUtf8:
      return read(uint8_t{});
    case kInt16:
      return read(int16_t{});
    case kUint16:
      return read(uint16_t{});
    case kInt32:
      return read(int32_t{});
    case kUint32:
      return read(uint32_t{});
    case kDouble:
      return read(double{});
    default:
      reader.check(false);
      return {};
  }
}

// Text, or one number, of an array; "" for anything else.
std::string value_of(std::string_view matrix, const std::string& name) {
  if (matrix.empty()) return "";
  Reader reader(matrix, name);
  const Element flags = reader.next();
  reader.check(flags.bytes.size() >= 4);
  const auto kind = static_cast<uint8_t>(flags.bytes[0]);
  reader.next();  // sizes
  reader.next();  // name
  if (kind < kChar || reader.at_end()) return "";
  const std::vector<double> values = numbers_of(reader.next(), reader);
  if (kind != kChar) {
    if (values.size() != 1) return "";
    return std::to_string(static_cast<int64_t>(std::clamp(values[0], -1e15, 1e15)));
  }
  std::string text;
  for (const double v : values) text += v > 0 && v < 128 ? static_cast<char>(v) : '?';
  return text;
}

// Empty where the array has another name or kind.
std::vector<MatRecord> structs_of(std::string_view matrix, const std::string& variable,
                                  const std::string& name) {
  Reader reader(matrix, name);
  const Element flags = reader.next();
  reader.check(flags.bytes.size() >= 4);
  const std::vector<double> sizes = numbers_of(reader.next(), reader);
  const Element own = reader.next();
  if (own.bytes != variable || static_cast<uint8_t>(flags.bytes[0]) != kStruct) return {};
  const std::vector<double> length = numbers_of(reader.next(), reader);
  reader.check(length.size() == 1 && length[0] >= 1 && length[0] <= 64);
  const auto width = static_cast<size_t>(length[0]);
  const std::string_view names = reader.next().bytes;
  std::vector<std::string> fields;
  for (size_t at = 0; at + width <= names.size(); at += width) {
    const std::string_view field = names.substr(at, width);
    fields.emplace_back(field.substr(0, std::min(field.find('\0'), field.size())));
  }
  double count = 1;
  for (const double size : sizes) count *= size;
  reader.check(!fields.empty() && count >= 1 && count <= 1e6);
  std::vector<MatRecord> records(static_cast<size_t>(count));
  for (MatRecord& record : records) {
    for (const std::string& field : fields) {
      const Element value = reader.next();
      reader.check(value.type == kMatrix);
      record[field] = value_of(value.bytes, name);
    }
  }
  return records;
}

}  // namespace

std::vector<MatRecord> read_mat_structs(std::string_view file, const std::string& variable,
                                        const std::string& name) {
  Reader head(file, name);
  head.check(file.size() > 128 && file.substr(124, 4) == std::string_view("\0\1IM", 4));
  Reader reader(file.substr(128), name);
  while (!reader.at_end()) {
    Element element = reader.next();
    std::string unpacked;
    if (element.type == kCompressed) {
      unpacked = unpack_zlib(element.bytes, kMostBytes, name);
      element = Reader(unpacked, name).next();
    }
    if (element.type != kMatrix) continue;
    if (auto records = structs_of(element.bytes, variable, name); !records.empty()) return records;
  }
  fail(Fault::bad_file, name, ": has no array of structs named ", variable);
}

}  // namespace mullion
