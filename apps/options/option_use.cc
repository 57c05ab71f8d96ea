// Options that change nothing beside the others are logged: scripts give all programs the same
// ones.
#include <algorithm>

#include "apps/options/flag_words.h"
#include "apps/options/options.h"
#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

OptionSpec& OptionSpec::refused_idle() {
  must_count = true;
  return *this;
}

OptionSpec& OptionSpec::only_with(std::string other, std::vector<std::string> values) {
  used_where.push_back({.key = std::move(other), .values = std::move(values)});
  return *this;
}

OptionSpec& OptionSpec::not_with(std::string other, std::vector<std::string> values) {
  used_where.push_back({.key = std::move(other), .values = std::move(values), .inverted = true});
  return *this;
}

OptionSpec& OptionSpec::only_where(std::function<bool(const Options&)> holds, std::string why_not) {
  used_where.push_back(
      {.key = "", .values = {}, .holds = std::move(holds), .why_not = std::move(why_not)});
  return *this;
}

std::vector<std::string> flag_words(const OptionSpec& spec, const OptionValue& value) {
  const std::string flag = shown_flag(spec);
  if (const auto* on = std::get_if<bool>(&value))
    return {*on || flag.starts_with("--no-") ? flag : "--no-" + flag.substr(2)};
  if (const auto* text = std::get_if<std::string>(&value)) return {flag, *text};
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value))
    return {flag, joined(*texts, ",")};
  std::string words = toml_text(value);
  std::erase_if(words, [](char c) { return c == '[' || c == ']' || c == ' '; });
  return {flag, words};
}

namespace {
std::string flags_text(const OptionSpec& spec, const OptionValue& value) {
  return joined(flag_words(spec, value), " ");
}

// What a rule's values are compared with: a text, the texts of a list, "true", "false".
std::vector<std::string> words_of(const OptionValue& value) {
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) return *texts;
  if (const auto* text = std::get_if<std::string>(&value)) return {*text};
  return {toml_text(value)};
}

bool is_set(const OptionValue& value) {
  if (const auto* on = std::get_if<bool>(&value)) return *on;
  if (const auto* integer = std::get_if<int64_t>(&value)) return *integer != 0;
  if (const auto* real = std::get_if<double>(&value)) return *real != 0;
  if (const auto* text = std::get_if<std::string>(&value)) return !text->empty();
  const std::string text = toml_text(value);
  return !text.empty() && text != "[]";
}

bool holds(const UseRule& rule, const Options& options) {
  if (rule.holds) return rule.holds(options);
  const OptionValue& value = options.value(rule.key);
  if (rule.values.empty()) return is_set(value) != rule.inverted;
  const std::vector<std::string> words = words_of(value);
  const bool any = std::any_of(words.begin(), words.end(), [&](const std::string& word) {
    return std::find(rule.values.begin(), rule.values.end(), word) != rule.values.end();
  });
  return any != rule.inverted;
}

std::string why_not(const UseRule& rule, const Options& options, const OptionTable& table) {
  if (rule.holds) return rule.why_not;
  const OptionSpec* other = table.find(rule.key);
  CHECK(other != nullptr, table.program(), ": no option is called ", rule.key);
  const OptionValue& value = options.value(rule.key);
  const std::string flag = shown_flag(*other);
  const std::string place = options.source(rule.key);
  const std::string from = place == "flag" ? "" : " (" + place + ")";
  if (rule.values.empty())
    return rule.inverted ? concat("with ", flags_text(*other, value), from) : "without " + flag;
  const std::string known =
      rule.inverted ? "" : concat("; it is for ", flag, " ", joined(rule.values));
  return concat(options.has(rule.key) ? "with " + flags_text(*other, value) + from : "", known);
}
}  // namespace

void Options::tell_idle(std::string_view key, const std::string& why) const {
  const size_t i = index(key);
  const OptionSpec& spec = table_->specs()[i];
  const std::string& from = sources_[i];
  if (!has(key) || from == "default" || from == "derived") return;
  if (from == "flag" && spec.must_count)
    throw Error(concat(flags_text(spec, values_[i]), ": has no effect ", why), Fault::usage,
                "leave out " + shown_flag(spec));
  if (from == "flag")
    log_warning(flags_text(spec, values_[i]), ": has no effect ", why);
  else if (values_[i] != spec.fallback)
    log_warning(from, ": ", key, " = ", toml_text(values_[i]), ": has no effect ", why);
}

void check_used(const Options& options, const OptionTable& table) {
  for (const OptionSpec& spec : table.specs())
    for (const UseRule& rule : spec.used_where)
      if (!holds(rule, options)) {
        options.tell_idle(spec.key, why_not(rule, options, table));
        break;
      }
}

}  // namespace mullion
