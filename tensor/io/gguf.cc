// Reading the header of a GGUF file.
#include "tensor/io/gguf.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/checked.h"

namespace mullion {

namespace {
constexpr uint64_t kMaxName = 64, kMaxKey = 65'535, kMaxAlignment = uint64_t{1} << 20;
constexpr uint64_t kMaxPairs = 65'536, kMaxTensors = 1'000'000;
constexpr uint32_t kMaxRank = 4;
// What one key-value pair and one tensor description take at least.
constexpr uint64_t kMinPair = 8 + 1 + 4 + 1, kMinEntry = 8 + 1 + 4 + 8 + 4 + 8;
constexpr uint64_t kWidths[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                       "bool", "string", "array", "u64", "i64", "f64"};

uint64_t width_of(GgufType type) { return kWidths[static_cast<size_t>(type)]; }

constexpr std::array<std::pair<uint32_t, StoredType>, 16> kTypes = {{
    {0, StoredType::f32},
    {1, StoredType::f16},
    {2, StoredType::q4_0},
    {3, StoredType::q4_1},
    {6, StoredType::q5_0},
    {7, StoredType::q5_1},
    {8, StoredType::q8_0},
    {10, StoredType::q2_k},
    {11, StoredType::q3_k},
    {12, StoredType::q4_k},
    {13, StoredType::q5_k},
    {14, StoredType::q6_k},
    {20, StoredType::iq4_nl},
    {23, StoredType::iq4_xs},
    {28, StoredType::f64},
    {30, StoredType::bf16},
}};

std::optional<StoredType> stored_type_of_ggml(uint32_t type) {
  for (const auto& [number, stored] : kTypes)
    if (number == type) return stored;
  return std::nullopt;
}

// Names of what is not read, so that the error can say them.
std::string ggml_type_name(uint32_t type) {
  constexpr std::array<std::pair<uint32_t, std::string_view>, 16> kUnread = {{
      {9, "Q8_1"},
      {15, "Q8_K"},
      {16, "IQ2_XXS"},
      {17, "IQ2_XS"},
      {18, "IQ3_XXS"},
      {19, "IQ1_S"},
      {21, "IQ3_S"},
      {22, "IQ2_S"},
      {24, "I8"},
      {25, "I16"},
      {26, "I32"},
      {27, "I64"},
      {29, "IQ1_M"},
      {34, "TQ1_0"},
      {35, "TQ2_0"},
      {39, "MXFP4"},
  }};
  for (const auto& [number, name] : kUnread) {
    if (number == type) return std::string(name);
  }
  return concat("number ", type);
}

std::string names_of_types() {
  std::string text;
  for (const auto& [number, stored] : kTypes)
    text += concat(text.empty() ? "" : ", ", name_of(stored));
  return text;
}
}  // namespace

bool is_gguf(const std::filesystem::path& path) {
  if (path.extension() == ".gguf") return true;
  const auto file = open_file(path);
  char magic[4] = {};
  if (file->size() < 4) return false;
  file->read_at(0, std::as_writable_bytes(std::span(magic)));
  return std::memcmp(magic, "GGUF", 4) == 0;
}

uint32_t ggml_type_of(StoredType type) {
  for (const auto& [number, stored] : kTypes)
    if (stored == type) return number;
  fail(Fault::other, "GGUF: tensors of ", name_of(type), " are not written");
}

// A forward reader with a buffer; every length is compared with the bytes that are left.
class GgufFile::Cursor {
 public:
  explicit Cursor(const ByteSource& source) : source_(source) {}
  uint64_t at() const { return base_ + position_; }
  uint64_t left() const { return source_.size() - at(); }

  void read(void* dst, uint64_t n) {
    require(n, "a value");
    auto* out = static_cast<std::byte*>(dst);
    if (n > sizeof(buffer_)) {  // long runs go straight to their place
      source_.read_at(at(), {out, n});
      move_to(at() + n);
      return;
    }
    if (position_ + n > filled_) refill();
    std::memcpy(out, buffer_ + position_, n);
    position_ += n;
  }

  template <typename T>
  T read() {
    T value;
    read(&value, sizeof(T));
    return value;
  }

  std::string read_string(uint64_t max, std::string_view what) {
    const uint64_t length = read<uint64_t>();
    CHECK_AS(Fault::bad_file, length <= max, source_.name(), ": byte ", at(), ": ", what, " of ",
             length, " bytes, at most ", max);
    require(length, what);
    std::string text(length, '\0');
    if (length > 0) read(text.data(), length);
    return text;
  }

  GgufType read_type(const std::string& key) {
    const uint32_t type = read<uint32_t>();
    CHECK_AS(Fault::bad_file, type <= static_cast<uint32_t>(GgufType::f64), source_.name(), ": ",
             key, ": unknown value type ", type);
    return static_cast<GgufType>(type);
  }

  // Throws unless `n` more bytes are there.
  void require(uint64_t n, std::string_view what) const {
    CHECK_AS(Fault::bad_file, n <= left(), source_.name(), ": byte ", at(), ": ", what, " needs ",
             n, " bytes, ", left(), " are left");
  }
  // Throws unless `count` items of at least `size` bytes each can still be there.
  void require_items(uint64_t count, uint64_t size, std::string_view what) const {
    CHECK_AS(Fault::bad_file, count <= left() / size, source_.name(), ": byte ", at(), ": ", count,
             " ", what, " cannot be in the ", left(), " bytes that are left");
  }

 private:
  void move_to(uint64_t offset) {
    base_ = offset;
    position_ = filled_ = 0;
  }
  void refill() {
    move_to(at());
    filled_ = std::min<uint64_t>(sizeof(buffer_), left());
    source_.read_at(base_, {buffer_, filled_});
  }

  const ByteSource& source_;
  uint64_t base_ = 0, position_ = 0, filled_ = 0;
  std::byte buffer_[1 << 14];
};

GgufFile::GgufFile(const std::filesystem::path& path) : GgufFile(open_file(path)) {}

GgufFile::GgufFile(std::unique_ptr<ByteSource> bytes)
    : TensorSource(bytes->name()), bytes_(std::move(bytes)) {
  Cursor cursor(*bytes_);
  char magic[4];
  cursor.read(magic, 4);
  CHECK_AS(Fault::bad_file, std::memcmp(magic, "GGUF", 4) == 0, name(),
           ": does not start with GGUF");
  version_ = cursor.read<uint32_t>();
  CHECK_AS(Fault::bad_file, version_ == 2 || version_ == 3, name(), ": GGUF version ", version_,
           ", 2 and 3 are read");
  const uint64_t tensors = cursor.read<uint64_t>(), pairs = cursor.read<uint64_t>();
  CHECK_AS(Fault::bad_file, pairs <= kMaxPairs && tensors <= kMaxTensors, name(), ": ", pairs,
           " key-value pairs and ", tensors, " tensors, at most ", kMaxPairs, " and ", kMaxTensors,
           " are read");
  cursor.require_items(pairs, kMinPair, "key-value pairs");
  cursor.require_items(tensors, kMinEntry, "tensors");
  for (uint64_t i = 0; i < pairs; ++i) {
    const std::string key = cursor.read_string(kMaxKey, "a key");
    CHECK_AS(Fault::bad_file, !key.empty() && !values_.contains(key), name(), ": the key \"", key,
             "\" is empty or there twice");
    values_.emplace(key, read_value(cursor, key));
    keys_.push_back(key);
  }
  const uint64_t alignment = find_uint("general.alignment", kMaxAlignment).value_or(32);
  CHECK_AS(Fault::bad_file, alignment >= 8 && (alignment & (alignment - 1)) == 0, name(),
           ": general.alignment ", alignment, " is not a power of two from 8");
  std::vector<TensorEntry> entries;
  for (uint64_t i = 0; i < tensors; ++i) entries.push_back(read_entry(cursor));
  place(std::move(entries), cursor.at(), alignment);
}

GgufFile::Value GgufFile::read_value(Cursor& cursor, const std::string& key) const {
  Value value;
  value.type = cursor.read_type(key);
  if (value.type == GgufType::array) return read_array(cursor, key);
  if (value.type == GgufType::string) {
    value.bytes = cursor.read_string(cursor.left(), key);
    return value;
  }
  value.bytes.resize(width_of(value.type));
  cursor.read(value.bytes.data(), value.bytes.size());
  return value;
}

GgufFile::Value GgufFile::read_array(Cursor& cursor, const std::string& key) const {
  Value value;
  value.is_array = true;
  value.type = cursor.read_type(key);
  value.count = cursor.read<uint64_t>();
  CHECK_AS(Fault::bad_file, value.type != GgufType::array, name(), ": ", key,
           ": an array of arrays");
  if (value.type == GgufType::string) {
    cursor.require_items(value.count, 8, "strings of " + key);
    for (uint64_t i = 0; i < value.count; ++i) {
      value.strings.push_back(cursor.read_string(cursor.left(), key));
    }
    return value;
  }
  cursor.require_items(value.count, width_of(value.type), "values of " + key);
  value.bytes.resize(value.count * width_of(value.type));
  if (!value.bytes.empty()) cursor.read(value.bytes.data(), value.bytes.size());
  return value;
}

TensorEntry GgufFile::read_entry(Cursor& cursor) const {
  TensorEntry entry;
  entry.name = cursor.read_string(kMaxName, "a tensor name");
  const std::string what = name() + ": " + entry.name;
  CHECK_AS(Fault::bad_file, !entry.name.empty() && entry.name.find('\0') == std::string::npos, what,
           ": a tensor name that is empty or has a zero byte");
  const uint32_t rank = cursor.read<uint32_t>();
  CHECK_AS(Fault::bad_file, rank >= 1 && rank <= kMaxRank, what, ": ", rank, " dimensions, 1 to ",
           kMaxRank, " are read");
  entry.shape.resize(rank);
  for (uint32_t i = 0; i < rank; ++i) {
    const uint64_t size = cursor.read<uint64_t>();
    CHECK_AS(Fault::bad_file, size <= static_cast<uint64_t>(INT64_MAX), what, ": a dimension of ",
             size);
    entry.shape[rank - 1 - i] = static_cast<int64_t>(size);
  }
  const uint32_t number = cursor.read<uint32_t>();
  const auto type = stored_type_of_ggml(number);
  CHECK_AS(Fault::bad_file, type, what, ": values of the type ", ggml_type_name(number),
           ", which is not read; ", names_of_types(), " are");
  entry.type = *type;
  entry.count = checked_count(entry.shape, what);
  entry.bytes =
      stored_bytes(entry.type, entry.count, static_cast<uint64_t>(entry.shape.back()), what);
  entry.offset = cursor.read<uint64_t>();
  return entry;
}

// Each tensor starts where the one before it, padded, ended; the file ends with the last one, whose
// padding may be missing.
void GgufFile::place(std::vector<TensorEntry> entries, uint64_t header_end, uint64_t alignment) {
  const uint64_t size = bytes_->size();
  const uint64_t start = checked_round_up(header_end, alignment, name());
  uint64_t at = 0, end = header_end;
  for (TensorEntry& entry : entries) {
    const std::string what = name() + ": " + entry.name;
    CHECK_AS(Fault::bad_file, entry.offset == at, what, ": is said to be at ", entry.offset,
             " of the data, ", at, " was expected");
    end = checked_add(start, checked_add(at, entry.bytes, what), what);
    CHECK_AS(Fault::bad_file, end <= size, what, ": ends at byte ", end, ", the file at ", size);
    at = checked_round_up(at + entry.bytes, alignment, what);
    entry.offset += start;
    add(std::move(entry));
  }
  CHECK_AS(Fault::bad_file, size == end || size == checked_add(start, at, name()), name(), ": ",
           size - end, " bytes follow its last tensor");
}

void GgufFile::read_bytes(const TensorEntry& entry, uint64_t begin,
                          std::span<std::byte> dst) const {
  CHECK(begin <= entry.bytes && dst.size() <= entry.bytes - begin, name(), ": ", entry.name,
        ": bytes ", begin, " + ", dst.size(), " are outside its ", entry.bytes);
  bytes_->read_at(entry.offset + begin, dst);
}

void GgufFile::wrong_type(const std::string& key, const Value& value,
                          std::string_view wanted) const {
  fail(Fault::bad_file, name(), ": ", key, ": expected ", wanted, ", found ",
       value.is_array ? "an array of " : "", kNames[static_cast<size_t>(value.type)]);
}

}  // namespace mullion
