// Typed access to the metadata of a GGUF file.
#include <cmath>
#include <cstring>

#include "tensor/check.h"
#include "tensor/io/gguf.h"

namespace mullion {

namespace {
template <typename T>
T load(const std::string& bytes, uint64_t index = 0) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

struct Integer {
  bool negative;
  uint64_t value;
};

// None where the type is no integer.
std::optional<Integer> integer_of(GgufType type, const std::string& bytes) {
  const auto from_signed = [](int64_t v) { return Integer{v < 0, static_cast<uint64_t>(v)}; };
  switch (type) {
    case GgufType::u8:
      return Integer{false, load<uint8_t>(bytes)};
    case GgufType::u16:
      return Integer{false, load<uint16_t>(bytes)};
    case GgufType::u32:
      return Integer{false, load<uint32_t>(bytes)};
    case GgufType::u64:
      return Integer{false, load<uint64_t>(bytes)};
    case GgufType::i8:
      return from_signed(load<int8_t>(bytes));
    case GgufType::i16:
      return from_signed(load<int16_t>(bytes));
    case GgufType::i32:
      return from_signed(load<int32_t>(bytes));
    case GgufType::i64:
      return from_signed(load<int64_t>(bytes));
    default:
      return std::nullopt;
  }
}
}  // namespace

std::vector<std::string> GgufFile::keys() const { return keys_; }

bool GgufFile::is_off(const std::string& key) const {
  const auto found = values_.find(key);
  CHECK_AS(Fault::bad_file, found != values_.end(), name(), ": the key ", key, " is missing");
  const Value& value = found->second;
  return value.strings.empty() && value.bytes.find_first_not_of('\0') == std::string::npos;
}

const GgufFile::Value& GgufFile::value(const std::string& key, bool is_array,
                                       std::string_view wanted) const {
  const auto found = values_.find(key);
  CHECK_AS(Fault::bad_file, found != values_.end(), name(), ": the key ", key, " is missing");
  if (found->second.is_array != is_array) wrong_type(key, found->second, wanted);
  return found->second;
}

uint64_t GgufFile::get_uint(const std::string& key, uint64_t max) const {
  const Value& found = value(key, false, "an integer");
  const auto integer = integer_of(found.type, found.bytes);
  if (!integer) wrong_type(key, found, "an integer");
  CHECK_AS(Fault::bad_file, !integer->negative && integer->value <= max, name(), ": ", key, ": ",
           integer->negative ? "-" : "", integer->negative ? ~integer->value + 1 : integer->value,
           " is not within 0 and ", max);
  return integer->value;
}

double GgufFile::get_number(const std::string& key) const {
  const Value& found = value(key, false, "a number");
  double number = 0;
  if (found.type == GgufType::f32) {
    number = load<float>(found.bytes);
  } else if (found.type == GgufType::f64) {
    number = load<double>(found.bytes);
  } else {
    wrong_type(key, found, "a number");
  }
  CHECK_AS(Fault::bad_file, std::isfinite(number), name(), ": ", key, ": ", number);
  return number;
}

bool GgufFile::get_bool(const std::string& key) const {
  const Value& found = value(key, false, "a bool");
  if (found.type != GgufType::boolean) wrong_type(key, found, "a bool");
  const uint8_t byte = load<uint8_t>(found.bytes);
  CHECK_AS(Fault::bad_file, byte <= 1, name(), ": ", key, ": a bool of ", int{byte});
  return byte == 1;
}

const std::string& GgufFile::get_string(const std::string& key) const {
  const Value& found = value(key, false, "a string");
  if (found.type != GgufType::string) wrong_type(key, found, "a string");
  return found.bytes;
}

const std::vector<std::string>& GgufFile::get_strings(const std::string& key) const {
  const Value& found = value(key, true, "an array of strings");
  if (found.type != GgufType::string) wrong_type(key, found, "an array of strings");
  return found.strings;
}

std::vector<float> GgufFile::get_floats(const std::string& key) const {
  const Value& found = value(key, true, "an array of f32");
  if (found.type != GgufType::f32) wrong_type(key, found, "an array of f32");
  std::vector<float> values(found.count);
  for (uint64_t i = 0; i < found.count; ++i) {
    values[i] = load<float>(found.bytes, i);
    CHECK_AS(Fault::bad_file, std::isfinite(values[i]), name(), ": ", key, ": element ", i, " is ",
             values[i]);
  }
  return values;
}

std::vector<int32_t> GgufFile::get_ints(const std::string& key) const {
  const Value& found = value(key, true, "an array of i32");
  const bool fits = found.type == GgufType::i32 || found.type == GgufType::u32;
  if (!fits) wrong_type(key, found, "an array of i32");
  std::vector<int32_t> values(found.count);
  for (uint64_t i = 0; i < found.count; ++i) {
    values[i] = load<int32_t>(found.bytes, i);
    CHECK_AS(Fault::bad_file, found.type == GgufType::i32 || values[i] >= 0, name(), ": ", key,
             ": element ", i, " is above 2^31");
  }
  return values;
}

std::optional<uint64_t> GgufFile::find_uint(const std::string& key, uint64_t max) const {
  return has(key) ? std::optional(get_uint(key, max)) : std::nullopt;
}

std::optional<double> GgufFile::find_number(const std::string& key) const {
  return has(key) ? std::optional(get_number(key)) : std::nullopt;
}

std::optional<bool> GgufFile::find_bool(const std::string& key) const {
  return has(key) ? std::optional(get_bool(key)) : std::nullopt;
}

std::optional<std::string> GgufFile::find_string(const std::string& key) const {
  return has(key) ? std::optional(get_string(key)) : std::nullopt;
}

}  // namespace mullion
