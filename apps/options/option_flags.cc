// The command line by CLI11: every flag is read as text and converted by the table's own rules, so
// that flags, files and presets accept the same values. Underscores in flags count as dashes.
#include <CLI/CLI.hpp>
#include <algorithm>

#include "apps/options/foreign_flags.h"
#include "apps/options/nearest.h"
#include "apps/options/options.h"
#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/words.h"

#ifndef MULLION_VERSION
#define MULLION_VERSION "unknown"
#endif

namespace mullion {

namespace {
struct Controls {
  std::vector<std::string> configs, presets;
  bool list_presets = false, print_config = false, dry_run = false, json = false;
  bool help = false, version = false, completion = false;
  int verbose = 0, quiet = 0;
};

const std::vector<std::string> kControlFlags = words_in(
    "-c --config --preset --list-presets --print-config --dry-run --json -v --verbose -q --quiet "
    "--completion-bash -h --help --version");

// "--batch_size=3" -> "--batch-size=3"; values stay as they are.
std::string dashes(std::string argument) {
  if (!argument.starts_with("--")) return argument;
  const auto end = std::find(argument.begin(), argument.end(), '=');
  std::replace(argument.begin(), end, '_', '-');
  return argument;
}

bool has_positionals(const OptionTable& table) {
  return std::any_of(table.specs().begin(), table.specs().end(),
                     [](const OptionSpec& spec) { return spec.positional(); });
}

// "-x,--long" of a boolean also gets "--no-long"; a flag that is itself "--no-x" stays alone.
std::string boolean_names(const OptionSpec& spec) {
  std::string names = spec.flags;
  for (const std::string& name : flag_names(spec)) {
    if (name.starts_with("--") && !name.starts_with("--no-")) names += ",!--no-" + name.substr(2);
  }
  return names;
}

CLI::Option* declare(CLI::App& app, const OptionSpec& spec, bool lists_take_many) {
  if (spec.kind == OptionKind::boolean) return app.add_flag(boolean_names(spec));
  CLI::Option* option = app.add_option(spec.flags);
  if (is_list(spec.kind)) {
    const bool many = spec.positional() || (lists_take_many && !spec.is_whole);
    return option->expected(1, many ? CLI::detail::expected_max_vector_size : 1)
        ->allow_extra_args(many)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  }
  // The later of two equal flags wins, as the later of two files does; the program says so.
  return option->expected(1)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

void declare_controls(CLI::App& app, Controls& controls) {
  app.add_option("-c,--config", controls.configs)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--preset", controls.presets)
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_flag("--list-presets", controls.list_presets);
  app.add_flag("--print-config", controls.print_config);
  app.add_flag("--dry-run", controls.dry_run);
  app.add_flag("--json", controls.json);
  app.add_flag("-v,--verbose", controls.verbose);
  app.add_flag("-q,--quiet", controls.quiet);
  app.add_flag("--completion-bash", controls.completion);
  app.add_flag("-h,--help", controls.help);
  app.add_flag("--version", controls.version);
}

std::vector<std::string> all_flags(const OptionTable& table) {
  std::vector<std::string> flags = kControlFlags;
  for (const OptionSpec& spec : table.specs()) {
    if (spec.positional()) continue;
    for (const std::string& name : flag_names(spec)) {
      flags.push_back(name);
      if (spec.kind == OptionKind::boolean && name.starts_with("--") &&
          !name.starts_with("--no-")) {
        flags.push_back("--no-" + name.substr(2));
      }
    }
  }
  return flags;
}

void refuse_extras(const OptionTable& table, const std::vector<std::string>& extras) {
  if (extras.empty()) return;
  for (const std::string& extra : extras) {
    if (!extra.starts_with("-") || extra == "-") continue;
    const std::string flag = extra.substr(0, extra.find('='));
    std::vector<std::string> known = all_flags(table);
    if (const std::string ours = translated_flag(flag, known); !ours.empty())
      throw Error("unknown flag " + flag, Fault::usage, ours + ", its name here");
    // "-x" is one letter away from every short flag: only long ones can be meant.
    std::erase_if(known, [](const std::string& name) { return !name.starts_with("--"); });
    throw Error("unknown flag " + flag, Fault::usage,
                did_you_mean(flag, known, table.program() + " --help"));
  }
  throw Error("unexpected argument " + extras.front(), Fault::usage, table.program() + " --help");
}

// `keys`: those that are set.
void apply_preset(Options& options, const OptionTable& table, const std::string& name,
                  const std::vector<std::string>& keys) {
  std::vector<std::string> names;
  for (const Preset& preset : table.presets()) {
    names.push_back(preset.name);
    if (preset.name != name) continue;
    for (const auto& [key, text] : preset.values) {
      const OptionSpec* spec = table.find(key);
      CHECK(spec != nullptr, "preset ", name, ": no option is called ", key);
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) continue;
      options.set(key, parse_option(spec->kind, {text}, "preset " + name + ": " + key),
                  "preset " + name);
    }
    return;
  }
  throw Error("unknown preset " + name, Fault::usage, did_you_mean(name, names, "--list-presets"));
}

// Two numbers of which one stands in place of the other, such as steps and epochs: the flag of one
// replaces what files and presets say of the other. Those that are replaced, with the flag that
// does.
std::vector<std::pair<std::string, std::string>> replaced_keys(
    const OptionTable& table, const std::vector<std::pair<std::string, OptionValue>>& flags) {
  const auto is_given = [&](const std::string& key) {
    return std::any_of(flags.begin(), flags.end(), [&](const auto& f) { return f.first == key; });
  };
  std::vector<std::pair<std::string, std::string>> found;
  for (const OptionSpec& spec : table.specs())
    for (const UseRule& rule : spec.used_where) {
      const OptionSpec* other = table.find(rule.key);
      const bool numbers =
          other && (other->kind == OptionKind::integer || other->kind == OptionKind::real);
      if (numbers && rule.inverted && rule.values.empty() && is_given(spec.key) &&
          !is_given(other->key))
        found.emplace_back(other->key, shown_flag(spec));
    }
  return found;
}

std::string presets_text(const OptionTable& table) {
  std::string text;
  for (const Preset& preset : table.presets()) {
    text += preset.name + ": " + preset.help + "\n";
    for (const auto& [key, value] : preset.values) text += "  " + key + " = " + value + "\n";
  }
  return text.empty() ? table.program() + " has no presets\n" : text;
}

std::string completion_text(const OptionTable& table) {
  const std::string program = table.program().substr(0, table.program().find(' '));
  return "complete -o default -W \"" + joined(all_flags(table), " ") + "\" " + program + "\n";
}

// A value that was forgotten would be the flag behind it: "--output --dry-run".
void refuse_flags_as_values(const OptionTable& table, const std::vector<std::string>& arguments) {
  const std::vector<std::string> known = all_flags(table);
  std::vector<std::string> valued = words_in("-c --config --preset");
  for (const OptionSpec& spec : table.specs())
    if (spec.kind != OptionKind::boolean && !spec.positional())
      for (const std::string& name : flag_names(spec)) valued.push_back(name);
  const auto is_in = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (size_t i = 0; i + 1 < arguments.size() && arguments[i] != "--"; ++i) {
    const std::string flag = dashes(arguments[i]), next = dashes(arguments[i + 1]);
    // CLI11 takes "--output= x" for "--output x".
    const std::string name = flag.substr(0, flag.size() - flag.ends_with('='));
    if (name != flag && is_in(valued, name))
      throw Error(flag + ": its value is missing", Fault::usage,
                  concat(name, " VALUE, or ", name, " '' where it may be empty"));
    if (!is_in(valued, flag)) continue;
    if (is_in(known, next.substr(0, next.find('='))))
      throw Error(concat(flag, ": its value is missing, ", next, " behind it is a flag"),
                  Fault::usage,
                  concat(flag, flag.starts_with("--") ? "=" : "", next, " where that is meant"));
    ++i;
  }
}

// A variable of a script that was not set: "--output ''". What is empty by default may be so, and
// what a model is given to read ([prompt]).
void refuse_empty(const OptionSpec& spec, const OptionValue& value, const std::string& name) {
  const auto is_empty = [](const OptionValue& v) {
    const std::string text = toml_text(v);
    return text == "\"\"" || text == "[]";
  };
  CHECK_AS(Fault::usage,
           !is_empty(value) || is_empty(spec.fallback) ||
               (!spec.is_path && spec.key.starts_with("prompt.")),
           name, is_list(spec.kind) ? ": an empty list" : ": an empty text");
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value))
    CHECK_AS(Fault::usage, std::find(texts->begin(), texts->end(), "") == texts->end(), name,
             ": an empty text");
}

// What the flags say, by key.
std::vector<std::pair<std::string, OptionValue>> values_of(const OptionTable& table,
                                                           const std::vector<CLI::Option*>& flags) {
  std::vector<std::pair<std::string, OptionValue>> values;
  for (size_t i = 0; i < flags.size(); ++i) {
    if (flags[i]->count() == 0) continue;
    const OptionSpec& spec = table.specs()[i];
    std::vector<std::string> texts = flags[i]->results();
    const std::string name = shown_flag(spec);
    if (!is_list(spec.kind)) {
      for (const std::string& text : texts)
        if (text != texts.back())
          log_warning(name, " is given several times: the last, ", texts.back(), ", is taken, ",
                      text, " is not");
      texts = {texts.back()};
    }
    values.emplace_back(spec.key,
                        spec.is_whole ? OptionValue(texts) : parse_option(spec.kind, texts, name));
    check_limits(values.back().second, spec.limits, name);
    refuse_empty(spec, values.back().second, name);
  }
  return values;
}

void check_required(const Options& options, const OptionTable& table) {
  for (const OptionSpec& spec : table.specs()) {
    const OptionValue& value = options.value(spec.key);
    const auto* texts = std::get_if<std::vector<std::string>>(&value);
    const auto* text = std::get_if<std::string>(&value);
    const bool missing =
        !options.has(spec.key) || (texts && texts->empty()) || (text && text->empty());
    if (spec.is_required && missing) {
      const std::string flag = shown_flag(spec);
      throw Error(flag + " is required: " + spec.help, Fault::usage, table.program() + " --help");
    }
  }
}
}  // namespace

ParsedOptions parse_options(const OptionTable& declared,
                            const std::vector<std::string>& arguments) {
  auto completed = std::make_shared<OptionTable>(declared);
  completed->add_common();
  const std::shared_ptr<const OptionTable> table = completed;

  CLI::App app(table->about(), table->program());
  app.set_help_flag();
  app.allow_extras();
  Controls controls;
  declare_controls(app, controls);
  const bool lists_take_many = !has_positionals(*table);
  std::vector<CLI::Option*> flags;
  for (const OptionSpec& spec : table->specs()) {
    flags.push_back(declare(app, spec, lists_take_many));
  }
  refuse_flags_as_values(*table, arguments);
  // CLI11 wants the arguments last first.
  std::vector<std::string> reversed;
  bool only_values = false;
  for (const std::string& argument : arguments) {
    only_values = only_values || argument == "--";
    reversed.insert(reversed.begin(), only_values ? argument : dashes(argument));
  }
  try {
    app.parse(reversed);
  } catch (const CLI::ParseError& error) {
    throw Error(error.what(), Fault::usage, table->program() + " --help");
  }
  if (controls.help) return {std::nullopt, table->help_text()};
  if (controls.version) return {std::nullopt, "mullion " MULLION_VERSION "\n"};
  if (controls.list_presets) return {std::nullopt, presets_text(*table)};
  if (controls.completion) return {std::nullopt, completion_text(*table)};
  refuse_extras(*table, app.remaining());

  const std::vector<std::pair<std::string, OptionValue>> values = values_of(*table, flags);
  const auto with_keys = [&](Options options, const std::vector<std::string>& keys) {
    for (const std::string& file : controls.configs)
      for (const std::string& name : presets_named_in(file))
        apply_preset(options, *table, name, keys);
    for (const std::string& name : controls.presets) apply_preset(options, *table, name, keys);
    for (const std::string& file : controls.configs) apply_toml(options, *table, file, &keys);
    for (const auto& [key, value] : values) options.set(key, value, "flag");
    return options;
  };
  std::vector<std::string> keys = table->keys(), messages;
  const Options all = with_keys(Options(table), keys);
  for (const auto& [key, flag] : replaced_keys(*table, values)) {
    std::erase(keys, key);
    if (!all.is_default(key))
      messages.push_back(concat(all.source(key), ": ", key, " = ", toml_text(all.value(key)),
                                " gives way to ", flag));
  }
  const auto layered = [&](const Options& options) { return with_keys(options, keys); };
  Options options = layered(Options(table));
  if (Options below(table); table->base() && table->base()(options, below)) {
    options = layered(below);
    for (const OptionSpec& spec : table->specs())
      if (const OptionValue& now = options.value(spec.key), &then = below.value(spec.key);
          spec.may_change && now != then)
        options.notes.push_back(concat("but        ", shown_flag(spec), " ", toml_text(now),
                                       ", which was ",
                                       below.has(spec.key) ? toml_text(then) : "unset"));
  }
  options.notes.insert(options.notes.begin(), messages.begin(), messages.end());
  if (controls.print_config) return {std::nullopt, options.to_toml()};
  options.json = controls.json;
  options.dry_run = controls.dry_run;
  check_required(options, *table);
  check_used(options, *table);
  options.verbosity = controls.verbose - controls.quiet;
  options.arguments = arguments;
  return {std::move(options), ""};
}

}  // namespace mullion
