// Look-ups that check kind and range, and remember what was asked for.
#include "apps/llama/server/fields.h"

#include <algorithm>
#include <cmath>

#include "apps/llama/server/api_error.h"
#include "apps/options/nearest.h"
#include "tensor/check.h"

namespace mullion::server {

using nlohmann::json;

std::string describe(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  if (text.size() <= 40) return text;
  return value.is_array() ? "a list" : value.is_object() ? "an object" : "a long value";
}

std::string ApiError::json() const {
  const char* type = status == 401   ? "authentication_error"
                     : status == 403 ? "permission_error"
                     : status == 503 ? "overloaded_error"
                     : status >= 500 ? "server_error"
                                     : "invalid_request_error";
  const auto or_null = [](const std::string& text) {
    return text.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(text);
  };
  const nlohmann::ordered_json error = {
      {"message", what()}, {"type", type}, {"param", or_null(param)}, {"code", or_null(code)}};
  return nlohmann::ordered_json{{"error", error}}.dump(-1, ' ', false,
                                                       json::error_handler_t::replace);
}

Fields::Fields(const json& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    throw ApiError(400,
                   concat(path_.empty() ? "the body" : path_.substr(0, path_.size() - 1),
                          ": expected an object, found ", describe(object)),
                   path_.empty() ? "" : path_.substr(0, path_.size() - 1), "wrong_type");
}

const json* Fields::find(const std::string& name) {
  known_.insert(name);
  const auto at = object_.find(name);
  return at == object_.end() || at->is_null() ? nullptr : &*at;
}

const json& Fields::need(const std::string& name) {
  const json* value = find(name);
  if (!value)
    throw ApiError(400, path(name) + ": the field is missing", path(name), "missing_field");
  return *value;
}

namespace {
[[noreturn]] void wrong(const std::string& path, const std::string& expected, const json& value) {
  throw ApiError(400, concat(path, ": expected ", expected, ", found ", describe(value)), path,
                 "wrong_type");
}
}  // namespace

std::optional<int64_t> Fields::integer(const std::string& name, int64_t low, int64_t high) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  const std::string expected = concat("an integer from ", low, " to ", high);
  if (!value->is_number_integer()) wrong(path(name), expected, *value);
  const bool above = value->is_number_unsigned() && value->get<uint64_t>() > INT64_MAX;
  const int64_t number = above ? INT64_MAX : value->get<int64_t>();
  if (above || number < low || number > high) wrong(path(name), expected, *value);
  return number;
}

std::optional<double> Fields::number(const std::string& name, double low, double high) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  const std::string expected = concat("a number from ", low, " to ", high);
  if (!value->is_number()) wrong(path(name), expected, *value);
  const double number = value->get<double>();
  if (!std::isfinite(number) || number < low || number > high) wrong(path(name), expected, *value);
  return number;
}

std::optional<bool> Fields::boolean(const std::string& name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_boolean()) wrong(path(name), "true or false", *value);
  return value->get<bool>();
}

std::optional<std::string> Fields::text(const std::string& name) {
  const json* value = find(name);
  if (!value) return std::nullopt;
  if (!value->is_string()) wrong(path(name), "a text", *value);
  return value->get<std::string>();
}

void Fields::only(const std::string& name, const std::vector<json>& values) {
  const json* value = find(name);
  if (!value || std::find(values.begin(), values.end(), *value) != values.end()) return;
  throw ApiError(400, concat(path(name), ": not supported, found ", describe(*value)), path(name),
                 "unsupported_field");
}

void Fields::unused(const std::string& name) {
  const json* value = find(name);
  if (value && !value->is_string() && !value->is_object()) wrong(path(name), "a text", *value);
}

void Fields::finish() const {
  for (const auto& [name, value] : object_.items()) {
    if (known_.contains(name)) continue;
    const std::string nearest =
        name.size() > 80 ? "" : nearest_name(name, {known_.begin(), known_.end()});
    throw ApiError(400,
                   concat(path_, name.substr(0, 80), ": an unknown field",
                          nearest.empty() ? "" : "; did you mean " + nearest + "?"),
                   path_ + name.substr(0, 80), "unknown_field");
  }
}

}  // namespace mullion::server
