// JSON files from outside: text to a tree with one meaning, and typed access to its fields. Beyond
// JsonReader's rules, duplicate keys are refused (also twins written with an escape). Errors are
// Error(bad_file) and name the file and the byte or the key.
//
// In the tree, non-negative integers that fit are unsigned, negative ones signed, and everything
// else ("1.0", "1e3", "-0", 2^64) is a float, so that an integer accessor can refuse it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace mullion {

struct JsonLimits {
  size_t max_bytes = size_t{64} << 20;
  int max_depth = 64;
};

// `file` is the name put into errors.
nlohmann::json parse_json(std::string_view text, const std::string& file,
                          const JsonLimits& limits = {});
nlohmann::json read_json_file(const std::filesystem::path& path, const JsonLimits& limits = {});
// Indented by two, keys sorted, a final newline; written atomically.
void write_json_file(const std::filesystem::path& path, const nlohmann::json& value);

// The value of `key`; null where the key is absent or its value is JSON's null.
const nlohmann::json* find_field(const nlohmann::json& object, const std::string& file,
                                 std::string_view key);

// null, false, "", [] or {}: what a writer leaves in a field that it does not use.
bool is_off(const nlohmann::json& value);

// Typed fields. Absent, null or of another type: an error; so are, for integers, a negative or
// fractional value and one above `max`.
uint64_t get_uint(const nlohmann::json& object, const std::string& file, std::string_view key,
                  uint64_t max);
double get_number(const nlohmann::json& object, const std::string& file, std::string_view key);
bool get_bool(const nlohmann::json& object, const std::string& file, std::string_view key);
std::string get_string(const nlohmann::json& object, const std::string& file, std::string_view key);
std::vector<std::string> get_strings(const nlohmann::json& object, const std::string& file,
                                     std::string_view key);

// The same with a value for where the field is absent or null.
uint64_t get_uint_or(const nlohmann::json& object, const std::string& file, std::string_view key,
                     uint64_t max, uint64_t otherwise);
double get_number_or(const nlohmann::json& object, const std::string& file, std::string_view key,
                     double otherwise);
bool get_bool_or(const nlohmann::json& object, const std::string& file, std::string_view key,
                 bool otherwise);
std::string get_string_or(const nlohmann::json& object, const std::string& file,
                          std::string_view key, const std::string& otherwise);

// A value that is not a field, e.g. an element of an array; `what` names it in errors.
uint64_t as_uint(const nlohmann::json& value, const std::string& file, std::string_view what,
                 uint64_t max);
const std::string& as_string(const nlohmann::json& value, const std::string& file,
                             std::string_view what);

}  // namespace mullion
