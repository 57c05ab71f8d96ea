// One line of JSON, built key by key in order: a program's result, a step of metrics.jsonl.
// Numbers are written with the fewest digits that read back to the same value. JSON has no
// non-finite numbers, so those become the strings "NaN", "Infinity" and "-Infinity": a diverged
// loss stays visible in the log and readers that insist on the standard still read the line.
#pragma once
#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mullion {

// A quoted JSON string; bytes that are not UTF-8 become U+FFFD.
std::string json_string(std::string_view text);
std::string json_number(double value);
std::string json_number(float value);

class JsonObject {
 public:
  // Sets a field; setting a key again replaces its value in place.
  JsonObject& set(std::string_view key, bool value) { return put(key, value ? "true" : "false"); }
  JsonObject& set(std::string_view key, const char* value) { return put(key, json_string(value)); }
  JsonObject& set(std::string_view key, std::string_view value) {
    return put(key, json_string(value));
  }
  JsonObject& set(std::string_view key, const std::string& value) {
    return put(key, json_string(value));
  }
  JsonObject& set(std::string_view key, std::integral auto value) {
    return put(key, std::to_string(value));
  }
  JsonObject& set(std::string_view key, std::floating_point auto value) {
    return put(key, json_number(value));
  }
  JsonObject& set(std::string_view key, const JsonObject& value) { return put(key, value.text()); }
  template <typename T>
  JsonObject& set(std::string_view key, const std::vector<T>& values) {
    std::string list = "[";
    for (const auto& value : values) {
      if (list.size() > 1) list += ',';
      list += JsonObject().set("", static_cast<const T&>(value)).fields_[0].second;
    }
    return put(key, list + "]");
  }
  JsonObject& set_null(std::string_view key) { return put(key, "null"); }
  // `json` is text that is JSON already.
  JsonObject& put(std::string_view key, std::string json);

  bool empty() const { return fields_.empty(); }
  bool has(std::string_view key) const;
  std::string text() const;

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

}  // namespace mullion
