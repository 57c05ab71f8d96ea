// The tree is built over JsonReader; depth bounds the recursion here and in the tree's destructor.
#include "tensor/io/json.h"

#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json_reader.h"

namespace mullion {

namespace {
using Json = nlohmann::json;

Json number_of(const JsonNumber& number) {
  if (!number.integer) return number.value;
  if (!number.negative) return number.magnitude;
  return static_cast<int64_t>(~number.magnitude + 1);
}

Json value_of(JsonReader& reader);

Json object_of(JsonReader& reader) {
  Json::object_t object;
  std::string key;
  reader.begin_object();
  while (reader.next_key(key)) {
    if (object.contains(key)) reader.fail(concat("duplicate key \"", key, "\""));
    object.emplace(key, value_of(reader));
  }
  return object;
}

Json array_of(JsonReader& reader) {
  Json::array_t array;
  reader.begin_array();
  while (reader.next_element()) array.push_back(value_of(reader));
  return array;
}

Json value_of(JsonReader& reader) {
  switch (reader.peek()) {
    case JsonReader::Kind::null:
      reader.read_null();
      return nullptr;
    case JsonReader::Kind::boolean:
      return reader.read_bool();
    case JsonReader::Kind::number:
      return number_of(reader.read_number());
    case JsonReader::Kind::string:
      return reader.read_string();
    case JsonReader::Kind::array:
      return array_of(reader);
    case JsonReader::Kind::object:
      return object_of(reader);
  }
  return nullptr;
}

// Long or odd values are cut: the message must stay a line.
std::string shown(const Json& value) {
  if (value.is_object()) return "an object";
  if (value.is_array()) return "an array";
  const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 60) + "..." : text;
}

[[noreturn]] void wrong(const std::string& file, std::string_view what, std::string_view wanted,
                        const Json& value) {
  fail(Fault::bad_file, file, ": \"", what, "\": expected ", wanted, ", found ", shown(value));
}

const Json& field(const Json& object, const std::string& file, std::string_view key) {
  const Json* value = find_field(object, file, key);
  CHECK_AS(Fault::bad_file, value, file, ": \"", key, "\" is missing");
  return *value;
}

double as_number(const Json& value, const std::string& file, std::string_view what) {
  if (!value.is_number()) wrong(file, what, "a number", value);
  return value.get<double>();
}

bool as_bool(const Json& value, const std::string& file, std::string_view what) {
  if (!value.is_boolean()) wrong(file, what, "true or false", value);
  return value.get<bool>();
}
}  // namespace

Json parse_json(std::string_view text, const std::string& file, const JsonLimits& limits) {
  CHECK_AS(Fault::bad_file, text.size() <= limits.max_bytes, file, ": ", text.size(),
           " bytes of JSON, at most ", limits.max_bytes, " are read");
  CHECK_AS(Fault::bad_file, !text.starts_with("\xEF\xBB\xBF"), file,
           ": byte 0: a byte-order mark, which JSON has not; save it as UTF-8 without one");
  JsonReader reader(text, file, limits.max_depth);
  Json value = value_of(reader);
  reader.finish();
  return value;
}

Json read_json_file(const std::filesystem::path& path, const JsonLimits& limits) {
  return parse_json(read_whole_file(path, limits.max_bytes), path.string(), limits);
}

void write_json_file(const std::filesystem::path& path, const Json& value) {
  write_whole_file(path, value.dump(2) + "\n");
}

const Json* find_field(const Json& object, const std::string& file, std::string_view key) {
  CHECK_AS(Fault::bad_file, object.is_object(), file, ": expected an object with \"", key,
           "\", found ", shown(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

bool is_off(const Json& value) {
  return value.is_null() || value == false || value == "" ||
         ((value.is_array() || value.is_object()) && value.empty());
}

uint64_t as_uint(const Json& value, const std::string& file, std::string_view what, uint64_t max) {
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<int64_t>() < 0)) {
    wrong(file, what, "an integer of 0 or more", value);
  }
  const uint64_t number = value.get<uint64_t>();
  CHECK_AS(Fault::bad_file, number <= max, file, ": \"", what, "\": ", number, " is above ", max);
  return number;
}

const std::string& as_string(const Json& value, const std::string& file, std::string_view what) {
  if (!value.is_string()) wrong(file, what, "a string", value);
  return value.get_ref<const std::string&>();
}

uint64_t get_uint(const Json& object, const std::string& file, std::string_view key, uint64_t max) {
  return as_uint(field(object, file, key), file, key, max);
}

double get_number(const Json& object, const std::string& file, std::string_view key) {
  return as_number(field(object, file, key), file, key);
}

bool get_bool(const Json& object, const std::string& file, std::string_view key) {
  return as_bool(field(object, file, key), file, key);
}

std::string get_string(const Json& object, const std::string& file, std::string_view key) {
  return as_string(field(object, file, key), file, key);
}

std::vector<std::string> get_strings(const Json& object, const std::string& file,
                                     std::string_view key) {
  const Json& value = field(object, file, key);
  if (!value.is_array()) wrong(file, key, "a list of strings", value);
  std::vector<std::string> strings;
  for (const Json& element : value) strings.push_back(as_string(element, file, key));
  return strings;
}

uint64_t get_uint_or(const Json& object, const std::string& file, std::string_view key,
                     uint64_t max, uint64_t otherwise) {
  const Json* value = find_field(object, file, key);
  return value ? as_uint(*value, file, key, max) : otherwise;
}

double get_number_or(const Json& object, const std::string& file, std::string_view key,
                     double otherwise) {
  const Json* value = find_field(object, file, key);
  return value ? as_number(*value, file, key) : otherwise;
}

bool get_bool_or(const Json& object, const std::string& file, std::string_view key,
                 bool otherwise) {
  const Json* value = find_field(object, file, key);
  return value ? as_bool(*value, file, key) : otherwise;
}

std::string get_string_or(const Json& object, const std::string& file, std::string_view key,
                          const std::string& otherwise) {
  const Json* value = find_field(object, file, key);
  return value ? as_string(*value, file, key) : otherwise;
}

}  // namespace mullion
