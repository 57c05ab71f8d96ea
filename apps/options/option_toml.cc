// TOML files by toml++. Its parser refuses duplicate keys; the table refuses the rest: unknown
// sections and keys (a misspelled key would otherwise train for hours on a default) and wrong
// types.
#include <toml++/toml.h>

#include <algorithm>
#include <cmath>

#include "apps/options/nearest.h"
#include "apps/options/options.h"
#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {

namespace {
constexpr uint64_t kMaxBytes = 1 << 20;

std::string place(const std::string& file, const toml::node& node) {
  return concat(file, ":", node.source().begin.line);
}

toml::table parse(const std::filesystem::path& file) {
  std::string text;
  try {
    text = read_whole_file(file, kMaxBytes);
  } catch (const Error& error) {
    throw Error(error.what(), Fault::usage);
  }
  try {
    return toml::parse(text, file.string());
  } catch (const toml::parse_error& error) {
    fail(Fault::usage, file.string(), ":", error.source().begin.line, ": ", error.description());
  }
}

std::string type_name(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::boolean:
      return "a boolean";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::string:
      return "text";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::table:
      return "a section";
    default:
      return "a date or time";
  }
}

[[noreturn]] void wrong_type(const toml::node& node, OptionKind kind, const std::string& where) {
  fail(Fault::usage, where, " is ", type_name(node), ", should be ", kind_name(kind));
}

template <typename T>
T scalar(const toml::node& node, OptionKind kind, const std::string& where) {
  if constexpr (std::same_as<T, double>) {
    // 1 is as good as 1.0 for a number; the reverse is not.
    if (const auto* integer = node.as_integer()) return static_cast<double>(integer->get());
  }
  const auto* value = node.as<T>();
  if (value == nullptr) wrong_type(node, kind, where);
  if constexpr (std::same_as<T, double>) {
    CHECK_AS(Fault::usage, std::isfinite(value->get()), where, " is not a finite number");
  }
  return value->get();
}

// A single value counts as a list of one.
template <typename T>
std::vector<T> list(const toml::node& node, OptionKind kind, const std::string& where) {
  std::vector<T> values;
  if (const auto* array = node.as_array()) {
    for (const toml::node& element : *array) {
      values.push_back(scalar<T>(element, kind, where));
    }
  } else {
    values.push_back(scalar<T>(node, kind, where));
  }
  return values;
}

OptionValue convert(const toml::node& node, OptionKind kind, const std::string& where) {
  switch (kind) {
    case OptionKind::boolean:
      return scalar<bool>(node, kind, where);
    case OptionKind::integer:
      return scalar<int64_t>(node, kind, where);
    case OptionKind::real:
      return scalar<double>(node, kind, where);
    case OptionKind::text:
      return scalar<std::string>(node, kind, where);
    case OptionKind::integers:
      return list<int64_t>(node, kind, where);
    case OptionKind::reals:
      return list<double>(node, kind, where);
    case OptionKind::texts:
      return list<std::string>(node, kind, where);
  }
  return {};
}

[[noreturn]] void unknown(const std::string& where, const std::string& what,
                          const std::string& nearest) {
  throw Error(where + ": unknown " + what, Fault::usage,
              nearest.empty() ? "--print-config shows every key" : "did you mean " + nearest + "?");
}

std::vector<std::string> section_names(const OptionTable& table) {
  std::vector<std::string> names;
  for (const std::string& key : table.keys()) names.push_back(key.substr(0, key.find('.')));
  return names;
}

// A key written under the wrong section has the right name elsewhere: that comes first.
std::string nearest_key(const OptionTable& table, const std::string& section,
                        const std::string& name) {
  std::vector<std::string> beside;
  for (const std::string& key : table.keys()) {
    const size_t dot = key.find('.');
    if (key.substr(dot + 1) == name) return "[" + key.substr(0, dot) + "] " + name;
    if (key.substr(0, dot) == section) beside.push_back(key.substr(dot + 1));
  }
  const std::string near = nearest_name(name, beside);
  return near.empty() ? nearest_name(section + "." + name, table.keys()) : near;
}
}  // namespace

std::vector<std::string> presets_named_in(const std::filesystem::path& file) {
  const toml::table root = parse(file);
  const toml::node* node = root.get("preset");
  if (node == nullptr) return {};
  return list<std::string>(*node, OptionKind::texts, place(file.string(), *node) + ": preset");
}

void apply_toml(Options& options, const OptionTable& table, const std::filesystem::path& file,
                const std::vector<std::string>* keys) {
  const toml::table root = parse(file);
  const std::vector<std::string> sections = section_names(table);
  for (const auto& [section_key, section_node] : root) {
    const std::string section(section_key.str());
    if (section == "preset") continue;
    const std::string where = place(file.string(), section_node);
    if (!section_node.is_table()) {
      unknown(where, "key " + section + " outside any section", nearest_key(table, "", section));
    }
    if (std::find(sections.begin(), sections.end(), section) == sections.end()) {
      const std::string nearest = nearest_name(section, sections);
      unknown(where, "section [" + section + "]", nearest.empty() ? "" : "[" + nearest + "]");
    }
    for (const auto& [name_key, node] : *section_node.as_table()) {
      const std::string name(name_key.str());
      const std::string key = section + "." + name;
      const std::string line = place(file.string(), node);
      const OptionSpec* spec = table.find(key);
      if (spec == nullptr) unknown(line, "key " + key, nearest_key(table, section, name));
      if (keys && std::find(keys->begin(), keys->end(), key) == keys->end()) continue;
      try {
        options.set(key, convert(node, spec->kind, key), line);
      } catch (const Error& error) {
        throw error.in(line);
      }
    }
  }
}

}  // namespace mullion
