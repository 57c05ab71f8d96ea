// Keys and values appended to one string; numbers by std::to_chars.
#include "apps/program/json_object.h"

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

namespace mullion {

namespace {
template <typename T>
std::string number(T value) {
  if (std::isnan(value)) return "\"NaN\"";
  if (std::isinf(value)) return value > 0 ? "\"Infinity\"" : "\"-Infinity\"";
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  // A number that is a fraction by type stays one by its text.
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}
}  // namespace

std::string json_string(std::string_view text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}
std::string json_number(double value) { return number(value); }
std::string json_number(float value) { return number(value); }

JsonObject& JsonObject::put(std::string_view key, std::string json) {
  for (auto& [name, value] : fields_) {
    if (name == key) {
      value = std::move(json);
      return *this;
    }
  }
  fields_.emplace_back(std::string(key), std::move(json));
  return *this;
}

bool JsonObject::has(std::string_view key) const {
  for (const auto& field : fields_) {
    if (field.first == key) return true;
  }
  return false;
}

std::string JsonObject::text() const {
  std::string line = "{";
  for (const auto& [key, value] : fields_) {
    if (line.size() > 1) line += ", ";
    line += json_string(key) + ": " + value;
  }
  return line + "}";
}

}  // namespace mullion
