// What a table and its values look like: --help and --print-config.
#include <algorithm>
#include <cstring>

#include "apps/options/options.h"
#include "tensor/words.h"

namespace mullion {

namespace {
constexpr size_t kHelpColumn = 34;

std::string section_of(const std::string& key) { return key.substr(0, key.find('.')); }
std::string name_of(const std::string& key) { return key.substr(key.find('.') + 1); }

// Sections in the order of their first option.
std::vector<std::string> sections_of(const OptionTable& table) {
  std::vector<std::string> sections;
  for (const OptionSpec& spec : table.specs()) {
    const std::string section = section_of(spec.key);
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      sections.push_back(section);
    }
  }
  return sections;
}

// What stands for a value behind its flag.
const char* placeholder(OptionKind kind) {
  constexpr const char* kShown[] = {"", "", " N", " X", " TEXT", " N,...", " X,...", " TEXT,..."};
  return kShown[static_cast<size_t>(kind)];
}

std::string default_text(const OptionSpec& spec) {
  if (std::holds_alternative<std::monostate>(spec.fallback)) return "";
  if (const auto* text = std::get_if<std::string>(&spec.fallback)) {
    return text->empty() ? "" : *text;
  }
  // Lists as they are written on the command line: without brackets and quotes.
  std::string text = toml_text(spec.fallback);
  if (is_list(spec.kind))
    std::erase_if(text, [](char c) { return std::strchr("[]\" ", c) != nullptr; });
  return text;
}

std::string row(std::string left, const std::string& right) {
  left = "  " + left;
  if (left.size() + 2 > kHelpColumn) {
    left += "\n" + std::string(kHelpColumn, ' ');
  } else {
    left.resize(kHelpColumn, ' ');
  }
  return left + right + "\n";
}

std::string help_row(const OptionSpec& spec) {
  std::string left = joined(flag_names(spec));
  const bool negated = left.starts_with("--no-");
  if (spec.kind == OptionKind::boolean && spec.fallback == OptionValue(true) && !negated) {
    const std::string last = flag_names(spec).back();
    left += ", --no-" + last.substr(2);
  }
  if (!spec.positional()) left += spec.is_whole ? " TEXT" : placeholder(spec.kind);
  std::string right = spec.help;
  const std::string limits = limits_text(spec.kind, spec.limits);
  // "at least 0" goes without saying.
  if (!limits.empty() && limits != "at least 0") right += "; " + limits;
  const std::string fallback = default_text(spec);
  if (spec.is_required) {
    right += " (required)";
  } else if (spec.kind == OptionKind::boolean) {
    right += fallback == "true" ? " (on)" : "";
  } else if (!fallback.empty()) {
    right += " (" + fallback + ")";
  }
  return row(left, right);
}
}  // namespace

std::string OptionTable::help_text() const {
  std::string usage = "usage: " + program_ + " [options]";
  for (const OptionSpec& spec : specs_) {
    if (spec.positional()) usage += " " + spec.flags + (is_list(spec.kind) ? "..." : "");
  }
  std::string text = about_ + "\n" + usage + "\n";
  for (const std::string& section : sections_of(*this)) {
    text += "\n[" + section + "]\n";
    for (const OptionSpec& spec : specs_) {
      if (section_of(spec.key) == section) text += help_row(spec);
    }
  }
  text += "\nevery program\n";
  text += row("-c, --config FILE", "TOML with the keys above; repeatable, later files win");
  if (!presets_.empty()) {
    text += row("--preset NAME", "a named set of values; repeatable, later ones win");
    text += row("--list-presets", "print the presets and what they set");
  }
  text += row("--print-config", "print every key with its value and source, as TOML");
  text += row("--dry-run", "check everything, print the plan, do nothing");
  text += row("--json", "the last line on stdout is the result as one JSON object");
  text += row("-v, --verbose", "say more; -vv: still more");
  text += row("-q, --quiet", "say only warnings and errors");
  text += row("--completion-bash", "print a completion script for bash");
  text += row("-h, --help", "this text");
  text += row("--version", "the version");
  return text;
}

std::string Options::to_toml(bool comments) const {
  std::string text;
  if (comments) text += "# " + table_->program() + "\n";
  for (const std::string& section : sections_of(*table_)) {
    text += (text.empty() ? "[" : "\n[") + section + "]\n";
    for (size_t i = 0; i < values_.size(); ++i) {
      const OptionSpec& spec = table_->specs()[i];
      if (section_of(spec.key) != section) continue;
      const bool unset = std::holds_alternative<std::monostate>(values_[i]);
      if (unset && !comments) continue;
      text += (unset ? "# " : "") + name_of(spec.key) + " =" + (unset ? "" : " ") +
              toml_text(values_[i]);
      if (comments) {
        const std::string limits = limits_text(spec.kind, spec.limits);
        text += (unset ? " unset; " : "  # ") + kind_name(spec.kind) +
                (limits.empty() ? "" : " " + limits);
        const std::string fallback = toml_text(spec.fallback);
        if (!fallback.empty() && sources_[i] != "default") text += "; default " + fallback;
        text += "; from " + sources_[i];
      }
      text += "\n";
    }
  }
  return text;
}

}  // namespace mullion
