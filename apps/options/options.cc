// The table's rows and the values over them; flags, TOML, printing and use have files of their own.
#include "apps/options/options.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {

OptionSpec& OptionSpec::range(double low, double high) {
  limits.low = low;
  limits.high = high;
  return *this;
}

OptionSpec& OptionSpec::at_least(double low) {
  limits.low = low;
  return *this;
}

OptionSpec& OptionSpec::one_of(std::vector<std::string> choices) {
  limits.choices = std::move(choices);
  return *this;
}

OptionSpec& OptionSpec::indexed() {
  limits.indexed = true;
  return *this;
}

OptionSpec& OptionSpec::required() {
  is_required = true;
  return *this;
}

OptionSpec& OptionSpec::whole() {
  is_whole = true;
  return *this;
}

OptionSpec& OptionSpec::free_on_resume() {
  may_change = true;
  return *this;
}

OptionSpec& OptionSpec::logged_on_resume() {
  same_results = true;
  return *this;
}

OptionSpec& OptionSpec::any_integer() {
  limits.high = std::numeric_limits<double>::infinity();
  return *this;
}

OptionSpec& OptionSpec::repeats() {
  limits.repeats = true;
  return *this;
}

std::vector<std::string> flag_names(const OptionSpec& spec) { return split(spec.flags, ','); }

std::string shown_flag(const OptionSpec& spec) {
  if (spec.positional()) return spec.flags;
  const std::vector<std::string> names = flag_names(spec);
  for (const std::string& name : names)
    if (name.starts_with("--")) return name;
  return names.front();
}

OptionTable::OptionTable(std::string program, std::string about)
    : program_(std::move(program)), about_(std::move(about)) {}

OptionSpec& OptionTable::add_value(std::string key, std::string flags, OptionValue fallback,
                                   std::string help) {
  const size_t dot = key.find('.');
  CHECK(dot != std::string::npos && key.find('.', dot + 1) == std::string::npos, "option ", key,
        ": a key is section.name");
  CHECK(find(key) == nullptr, "option ", key, ": declared twice");
  OptionSpec& spec = specs_.emplace_back();
  spec.key = std::move(key);
  spec.flags = std::move(flags);
  spec.help = std::move(help);
  spec.kind = static_cast<OptionKind>(fallback.index());
  spec.fallback = std::move(fallback);
  // Sizes and counts are the rule: an option that may be negative says so by its range.
  if (spec.kind == OptionKind::integer || spec.kind == OptionKind::integers)
    spec.limits.low = 0, spec.limits.high = kMostInteger;
  return spec;
}

void OptionTable::preset(std::string name, std::string help,
                         std::vector<std::pair<std::string, std::string>> values) {
  presets_.push_back({std::move(name), std::move(help), std::move(values)});
}

void OptionTable::add_common() {
  const auto has_flag = [&](const char* flag) {
    for (const OptionSpec& spec : specs_) {
      for (const std::string& name : flag_names(spec)) {
        if (name == flag) return true;
      }
    }
    return false;
  };
  if (!has_flag("--seed"))
    add("run.seed", "--seed", 42, "seed of everything that is random").any_integer();
  if (!has_flag("--threads")) {
    add("run.threads", "--threads", 0,
        "threads of the kernels; 0: OMP_NUM_THREADS, else one a core")
        .range(0, 1024)
        .free_on_resume();
  }
  if (!has_flag("--device")) {
    add("run.device", "--device", "auto", "where to compute")
        .one_of({"auto", "cpu", "cuda"})
        .indexed()
        .free_on_resume();
  }
}

void OptionTable::add_common_without(bool seed, bool device) {
  add_common();
  if (seed)
    at("run.seed").only_where([](const Options&) { return false; }, "here: nothing is random");
  if (device)
    at("run.device")
        .only_where([](const Options& o) { return o.device() == "cpu" || o.device() == "auto"; },
                    "here: this runs on the CPU");
}

const OptionSpec* OptionTable::find(std::string_view key) const {
  for (const OptionSpec& spec : specs_) {
    if (spec.key == key) return &spec;
  }
  return nullptr;
}

OptionSpec& OptionTable::at(std::string_view key) {
  for (OptionSpec& spec : specs_)
    if (spec.key == key) return spec;
  fail(Fault::other, program_, ": no option is called ", key);
}

std::vector<std::string> OptionTable::keys() const {
  std::vector<std::string> all;
  for (const OptionSpec& spec : specs_) all.push_back(spec.key);
  return all;
}

Options::Options(std::shared_ptr<const OptionTable> table) : table_(std::move(table)) {
  for (const OptionSpec& spec : table_->specs()) {
    values_.push_back(spec.fallback);
    sources_.emplace_back("default");
  }
}

size_t Options::index(std::string_view key) const {
  const auto& specs = table_->specs();
  for (size_t i = 0; i < specs.size(); ++i) {
    if (specs[i].key == key) return i;
  }
  fail(Fault::other, table_->program(), ": no option is called ", key);
}

const OptionSpec& Options::by_flag(std::string_view flag) const {
  for (const OptionSpec& spec : table_->specs()) {
    for (const std::string& name : flag_names(spec)) {
      if (name == flag) return spec;
    }
  }
  fail(Fault::other, table_->program(), ": no option has the flag ", flag);
}

const OptionValue& Options::value(std::string_view key) const { return values_[index(key)]; }
bool Options::has(std::string_view key) const {
  return !std::holds_alternative<std::monostate>(value(key));
}
bool Options::is_default(std::string_view key) const { return source(key) == "default"; }
std::string Options::source(std::string_view key) const { return sources_[index(key)]; }

void Options::set(std::string_view key, OptionValue value, std::string source) {
  const size_t i = index(key);
  const OptionSpec& spec = table_->specs()[i];
  CHECK(static_cast<OptionKind>(value.index()) == spec.kind, "option ", key,
        ": set to a value that is no ", kind_name(spec.kind));
  check_limits(value, spec.limits, std::string(key));
  values_[i] = std::move(value);
  sources_[i] = std::move(source);
}

std::vector<std::string> Options::given() const {
  std::vector<std::string> keys;
  for (const OptionSpec& spec : table_->specs())
    if (const std::string from = source(spec.key); from != "default" && from != "derived")
      keys.push_back(spec.key);
  return keys;
}

void Options::wrong_type(std::string_view key) const {
  const OptionSpec& spec = table_->specs()[index(key)];
  if (!has(key)) {
    fail(Fault::usage, "option ", shown_flag(spec), " (", key, ") is needed and not set");
  }
  fail(Fault::other, "option ", key, " is a ", kind_name(spec.kind),
       " and is asked for as something else");
}

void Options::out_of_range(std::string_view key) const {
  fail(Fault::usage, shown_flag(table_->specs()[index(key)]), ": ", toml_text(value(key)),
       " is too large");
}

std::vector<std::pair<std::string, std::string>> Options::identity() const {
  std::vector<std::pair<std::string, std::string>> fields;
  for (size_t i = 0; i < values_.size(); ++i) {
    const OptionSpec& spec = table_->specs()[i];
    if (!spec.may_change) fields.emplace_back(spec.key, toml_text(values_[i]));
  }
  return fields;
}

std::vector<std::pair<std::string, std::filesystem::path>> Options::identity_paths() const {
  std::vector<std::pair<std::string, std::filesystem::path>> paths;
  for (const OptionSpec& spec : table_->specs())
    if (spec.is_path && !spec.may_change && has(spec.key))
      paths.emplace_back(spec.key, get<std::filesystem::path>(spec.key));
  return paths;
}

const std::string& Options::program() const { return table_->program(); }
uint64_t Options::seed() const { return get<uint64_t>(by_flag("--seed").key); }
int Options::threads() const { return get<int>(by_flag("--threads").key); }
std::string Options::device() const { return get<std::string>(by_flag("--device").key); }

}  // namespace mullion
