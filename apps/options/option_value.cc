// One variant of kinds; reading, printing and limits each visit it once.
#include "apps/options/option_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <concepts>
#include <filesystem>
#include <set>

#include "apps/options/nearest.h"
#include "apps/program/json_object.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

namespace {
template <typename T>
T parse_number(const std::string& text, const std::string& name, const char* kind) {
  T value{};
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto [stop, error] = std::from_chars(begin, end, value);
  CHECK_AS(Fault::usage, error != std::errc::result_out_of_range, name, ": ", text,
           " is too large for ", kind);
  CHECK_AS(Fault::usage, error == std::errc() && stop == end, name, ": \"", text, "\" is not ",
           kind);
  return value;
}

int64_t parse_integer(const std::string& text, const std::string& name) {
  return parse_number<int64_t>(text, name, "an integer");
}

double parse_real(const std::string& text, const std::string& name) {
  const double value = parse_number<double>(text, name, "a number");
  CHECK_AS(Fault::usage, std::isfinite(value), name, ": ", text, " is not a finite number");
  return value;
}

bool parse_bool(const std::string& text, const std::string& name) {
  for (const char* yes : {"true", "on", "yes", "1"}) {
    if (text == yes) return true;
  }
  for (const char* no : {"false", "off", "no", "0"}) {
    if (text == no) return false;
  }
  fail(Fault::usage, name, ": \"", text, "\" is neither true nor false");
}

// The elements between commas and blanks; one empty text has none.
std::vector<std::string> elements_in(const std::vector<std::string>& texts,
                                     const std::string& name) {
  std::vector<std::string> elements;
  if (texts.size() == 1 && texts[0].empty()) return elements;
  for (size_t i = 0; i < texts.size(); ++i) {
    std::vector<std::string> parts = split(texts[i], ',');
    // "160, 224": the comma is at the end of a word.
    if (i + 1 < texts.size() && parts.size() > 1 && parts.back().empty()) parts.pop_back();
    for (std::string& part : parts) {
      CHECK_AS(Fault::usage, !part.empty(), name, ": an element of the list \"", joined(texts, " "),
               "\" is empty");
      elements.push_back(std::move(part));
    }
  }
  return elements;
}

// Integers print without a fraction: "in [1, 64]".
std::string bound(double value) {
  const std::string text = json_number(value);
  return text.ends_with(".0") ? text.substr(0, text.size() - 2) : text;
}

void check_range(double value, const OptionLimits& limits, const std::string& name, bool integer) {
  const OptionKind kind = integer ? OptionKind::integer : OptionKind::real;
  CHECK_AS(Fault::usage, !integer || value <= limits.high || limits.high != kMostInteger, name,
           ": ", bound(value), " is too large: at most ", bound(kMostInteger));
  CHECK_AS(Fault::usage, value >= limits.low && value <= limits.high, name, ": ", bound(value),
           " is not ", limits_text(kind, limits));
}

// "Q4_K" is q4_k where that is a choice and the other spelling is none.
void check_choice(std::string& text, const OptionLimits& limits, const std::string& name) {
  if (limits.choices.empty()) return;
  const size_t colon = limits.indexed ? text.find(':') : std::string::npos;
  const std::string name_alone = text.substr(0, colon);
  const bool has_number = colon == std::string::npos ||
                          (colon + 1 < text.size() && text.size() <= colon + 6 &&
                           text.find_first_not_of("0123456789", colon + 1) == std::string::npos);
  const auto& choices = limits.choices;
  auto choice = std::find(choices.begin(), choices.end(), name_alone);
  if (choice == choices.end())
    choice = std::find_if(choices.begin(), choices.end(), [&](const std::string& one) {
      return ascii_lower(one) == ascii_lower(name_alone);
    });
  if (choice == choices.end() || !has_number)
    throw Error(concat(name, ": \"", text, "\" is not ", limits_text(OptionKind::text, limits)),
                Fault::usage, did_you_mean(text, choices));
  text.replace(0, choice->size(), *choice);
}

// A list names things, sizes or counts: one that is there twice is a slip.
template <typename T>
void check_each_once(const std::vector<T>& list, const OptionLimits& limits,
                     const std::string& name) {
  if (limits.repeats) return;
  std::set<T> seen;
  for (const T& element : list) {
    T same = element;
    if constexpr (std::same_as<T, std::string>) {
      std::error_code ignored;
      if (limits.paths) same = std::filesystem::weakly_canonical(element, ignored).string();
    }
    CHECK_AS(Fault::usage, seen.insert(std::move(same)).second, name, ": ", element,
             " is there twice");
  }
}

template <typename T>
std::string toml_list(const std::vector<T>& values) {
  const auto text_of = [](const T& value) { return toml_text(OptionValue(value)); };
  return "[" + joined(values, ", ", text_of) + "]";
}
}  // namespace

std::string kind_name(OptionKind kind) {
  constexpr const char* kNames[] = {"",     "boolean",          "integer",         "number",
                                    "text", "list of integers", "list of numbers", "list of texts"};
  return kNames[static_cast<size_t>(kind)];
}

bool is_list(OptionKind kind) { return kind >= OptionKind::integers; }

std::string limits_text(OptionKind kind, const OptionLimits& limits) {
  if (!limits.choices.empty())
    return "one of " + joined(limits.choices) + (limits.indexed ? ", each also with :INDEX" : "");
  if (kind == OptionKind::text || kind == OptionKind::texts || kind == OptionKind::boolean) {
    return "";
  }
  const bool integer = kind == OptionKind::integer || kind == OptionKind::integers;
  const bool low = std::isfinite(limits.low);
  const bool high = std::isfinite(limits.high) && !(integer && limits.high == kMostInteger);
  if (low && high) return "in [" + bound(limits.low) + ", " + bound(limits.high) + "]";
  if (low) return "at least " + bound(limits.low);
  if (high) return "at most " + bound(limits.high);
  return "";
}

OptionValue parse_option(OptionKind kind, const std::vector<std::string>& texts,
                         const std::string& name) {
  if (!is_list(kind)) {
    CHECK_AS(Fault::usage, texts.size() == 1, name, ": takes one value, not ", texts.size());
  }
  switch (kind) {
    case OptionKind::boolean:
      return parse_bool(texts[0], name);
    case OptionKind::integer:
      return parse_integer(texts[0], name);
    case OptionKind::real:
      return parse_real(texts[0], name);
    case OptionKind::text:
      return texts[0];
    case OptionKind::integers: {
      std::vector<int64_t> values;
      for (const auto& text : elements_in(texts, name)) values.push_back(parse_integer(text, name));
      return values;
    }
    case OptionKind::reals: {
      std::vector<double> values;
      for (const auto& text : elements_in(texts, name)) values.push_back(parse_real(text, name));
      return values;
    }
    case OptionKind::texts:
      return elements_in(texts, name);
  }
  return {};
}

void check_limits(OptionValue& value, const OptionLimits& limits, const std::string& name) {
  if (const auto* integer = std::get_if<int64_t>(&value)) {
    check_range(static_cast<double>(*integer), limits, name, true);
  } else if (const auto* real = std::get_if<double>(&value)) {
    check_range(*real, limits, name, false);
  } else if (auto* text = std::get_if<std::string>(&value)) {
    check_choice(*text, limits, name);
  } else if (const auto* integers = std::get_if<std::vector<int64_t>>(&value)) {
    for (int64_t v : *integers) check_range(static_cast<double>(v), limits, name, true);
    check_each_once(*integers, limits, name);
  } else if (const auto* reals = std::get_if<std::vector<double>>(&value)) {
    for (double v : *reals) check_range(v, limits, name, false);
    check_each_once(*reals, limits, name);
  } else if (auto* texts = std::get_if<std::vector<std::string>>(&value)) {
    for (auto& v : *texts) check_choice(v, limits, name);
    check_each_once(*texts, limits, name);
  }
}

int64_t checked_product(int64_t a, int64_t b, const std::string& what) {
  int64_t product = 0;
  CHECK_AS(Fault::usage, !__builtin_mul_overflow(a, b, &product), what, ": ", a, " x ", b,
           " is too large");
  return product;
}

std::string toml_text(const OptionValue& value) {
  if (const auto* boolean = std::get_if<bool>(&value)) return *boolean ? "true" : "false";
  if (const auto* integer = std::get_if<int64_t>(&value)) return std::to_string(*integer);
  if (const auto* real = std::get_if<double>(&value)) return json_number(*real);
  // A TOML basic string has the escapes of a JSON string.
  if (const auto* text = std::get_if<std::string>(&value)) return json_string(*text);
  if (const auto* v = std::get_if<std::vector<int64_t>>(&value)) return toml_list(*v);
  if (const auto* v = std::get_if<std::vector<double>>(&value)) return toml_list(*v);
  if (const auto* v = std::get_if<std::vector<std::string>>(&value)) return toml_list(*v);
  return "";
}

}  // namespace mullion
