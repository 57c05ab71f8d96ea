// One table of options per program. It drives the flags, the TOML files (-c), the presets, --help
// and --print-config, so that a key has exactly one flag, one type, one default and one line of
// help. A value comes from, later ones winning: its default, presets, files, flags.
//
//   OptionTable table("train_tic", "Trains a vision transformer of MSA-Conv on a folder of
//   images"); table.add("train.batch_size", "-b,--batch-size", 128, "images a step").at_least(1);
//   ... int batch = options.get<int>("train.batch_size");
#pragma once
#include <concepts>
#include <deque>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "apps/options/option_value.h"

namespace mullion {

class Options;

// Where an option counts. One that was given and does not count is no silent matter: see
// Options::tell_idle.
struct UseRule {
  std::string key;                  // judged by the value of this other option, or
  std::vector<std::string> values;  //   one of these; none: any but unset, empty, 0 and false
  bool inverted = false;            //   used where that does not hold
  std::function<bool(const Options&)> holds = nullptr;  // by this, where there is no key
  std::string why_not = "";                             // and logged in these words
};

struct OptionSpec {
  std::string key;    // "section.name", the place in TOML
  std::string flags;  // "-b,--batch-size", further names behind; "IMAGE": a positional argument
  std::string help;   // a few words, with the unit
  OptionKind kind = OptionKind::text;
  OptionValue fallback;  // monostate: none, the option is unset until someone sets it
  OptionLimits limits;
  bool is_required = false;
  bool may_change = false;          // a resumed run may have another value
  bool same_results = false;        // it may as well, and says so: the results are the same
  bool is_path = false;             // declared as std::filesystem::path
  bool is_whole = false;            // a list of texts that may have commas: the flag once for each
  std::vector<UseRule> used_where;  // all must hold
  bool must_count = false;          // a flag that does not is an error, not a warning

  OptionSpec& range(double low, double high);
  OptionSpec& at_least(double low);
  OptionSpec& one_of(std::vector<std::string> choices);
  OptionSpec& indexed();  // of one_of: each also as "choice:3"
  OptionSpec& required();
  OptionSpec& free_on_resume();
  OptionSpec& logged_on_resume();  // same_results
  OptionSpec& whole();             // is_whole
  OptionSpec& any_integer();       // of seeds: none is too large
  OptionSpec& repeats();           // a list in which an element may be there again
  OptionSpec& refused_idle();  // must_count: who gives it wants something else than what happens
  // The option counts only where another one has (has not) one of these values; without values,
  // where it is (is not) set.
  OptionSpec& only_with(std::string key, std::vector<std::string> values = {});
  OptionSpec& not_with(std::string key, std::vector<std::string> values = {});
  // ... only where this holds; `why_not` ends the sentence "--x has no effect": "with a folder".
  OptionSpec& only_where(std::function<bool(const Options&)> holds, std::string why_not);
  bool positional() const { return flags.empty() || flags[0] != '-'; }
};

// The stored type of a C++ type: integers as int64_t, fractions as double, strings and paths as
// std::string, and lists of these.
template <typename T>
struct OptionType {
  using type = std::conditional_t<
      std::same_as<T, bool>, bool,
      std::conditional_t<std::integral<T>, int64_t,
                         std::conditional_t<std::floating_point<T>, double, std::string>>>;
};
template <typename T>
struct OptionType<std::vector<T>> {
  using type = std::vector<typename OptionType<T>::type>;
};

struct Preset {
  std::string name, help;
  std::vector<std::pair<std::string, std::string>> values;  // key, value as on the command line
};

class Options;

class OptionTable {
 public:
  OptionTable(std::string program, std::string about);

  // Booleans get --x and --no-x. Lists on the command line are separated by commas or spaces (by
  // commas alone in a program with positional arguments).
  template <typename T>
  OptionSpec& add(std::string key, std::string flags, const T& fallback, std::string help) {
    using Stored = typename OptionType<std::decay_t<T>>::type;
    if constexpr (std::constructible_from<Stored, T>) {
      return add_value(std::move(key), std::move(flags), OptionValue(Stored(fallback)),
                       std::move(help));
    } else {
      return add_value(std::move(key), std::move(flags),
                       OptionValue(Stored(fallback.begin(), fallback.end())), std::move(help));
    }
  }
  // Without a default: Options::has says whether it was set.
  template <typename T>
  OptionSpec& add_optional(std::string key, std::string flags, std::string help) {
    OptionSpec& spec = add_value(std::move(key), std::move(flags),
                                 OptionValue(typename OptionType<T>::type{}), std::move(help));
    spec.fallback = {};
    spec.is_path = std::same_as<T, std::filesystem::path>;
    spec.limits.paths = std::same_as<T, std::vector<std::filesystem::path>>;
    return spec;
  }
  void preset(std::string name, std::string help,
              std::vector<std::pair<std::string, std::string>> values);
  // A layer below presets, files and flags, which may depend on them: `base` gets the values as
  // given, sets what lies below in fresh ones, and returns false where there is nothing.
  using Base = std::function<bool(const Options& given, Options& below)>;
  void set_base(Base base) { base_ = std::move(base); }
  const Base& base() const { return base_; }
  // Adds --seed, --threads and --device, where the program has not declared them itself.
  void add_common();
  // add_common() for a program in which nothing is random, or that computes on the CPU alone: the
  // option stands there as everywhere, and is logged where it would ask for something.
  void add_common_without(bool seed, bool device);

  const std::string& program() const { return program_; }
  const std::string& about() const { return about_; }
  const std::deque<OptionSpec>& specs() const { return specs_; }
  const std::vector<Preset>& presets() const { return presets_; }
  const OptionSpec* find(std::string_view key) const;
  // The declared option, to say more of it; Error(other) where there is none.
  OptionSpec& at(std::string_view key);
  std::vector<std::string> keys() const;
  std::string help_text() const;

 private:
  OptionSpec& add_value(std::string key, std::string flags, OptionValue fallback, std::string help);

  std::string program_, about_;
  std::deque<OptionSpec> specs_;  // a deque: add() returns references that stay valid
  std::vector<Preset> presets_;
  Base base_;
};

// The values of one call of a program.
class Options {
 public:
  explicit Options(std::shared_ptr<const OptionTable> table);

  // T: bool, an integer, a fraction, std::string, std::filesystem::path, or a vector of these.
  template <typename T>
  T get(std::string_view key) const {
    using Stored = typename OptionType<T>::type;
    const Stored* stored = std::get_if<Stored>(&value(key));
    if (stored == nullptr) wrong_type(key);
    if constexpr (std::integral<T> && !std::same_as<T, bool>) {
      if (!std::in_range<T>(*stored)) out_of_range(key);
      return static_cast<T>(*stored);
    } else if constexpr (std::constructible_from<T, Stored>) {
      return T(*stored);
    } else {
      return T(stored->begin(), stored->end());
    }
  }
  bool has(std::string_view key) const;            // false: unset
  bool is_default(std::string_view key) const;     // nobody set it
  std::string source(std::string_view key) const;  // "default", "preset x", "f.toml:3", "flag"
  const OptionValue& value(std::string_view key) const;
  // Warns of an option whose value changes nothing in this call, where it was given as a flag
  // (Error(usage) if it must_count), or
  // with its place where a file or preset has another value than the default (saved configurations
  // hold every key). `why`: "with --full".
  void tell_idle(std::string_view key, const std::string& why) const;
  // Checks kind and limits. A program records what it derived ("auto") under source "derived".
  void set(std::string_view key, OptionValue value, std::string source);

  // Keys that a preset, a file or a flag has set.
  std::vector<std::string> given() const;
  const OptionTable& table() const { return *table_; }

  // The file that repeats this run alone; with comments: limits, default and source of each key.
  std::string to_toml(bool comments = true) const;
  // Keys and values that a resumed run must share (all but those free_on_resume), or tell.
  std::vector<std::pair<std::string, std::string>> identity() const;
  // Those of them that name a file or folder and are set.
  std::vector<std::pair<std::string, std::filesystem::path>> identity_paths() const;

  const std::string& program() const;  // "train_llama pretrain"
  uint64_t seed() const;
  int threads() const;         // 0: as many as the machine has cores
  std::string device() const;  // "cpu", "cuda:1", "auto"; see device_of()
  bool json = false, dry_run = false;
  int verbosity = 0;                   // -v: 1, -vv: 2, -q: -1
  std::vector<std::string> arguments;  // as given, for command.txt
  std::vector<std::string> notes;      // to be said when the program knows how loud it is

 private:
  [[noreturn]] void wrong_type(std::string_view key) const;
  [[noreturn]] void out_of_range(std::string_view key) const;
  size_t index(std::string_view key) const;
  const OptionSpec& by_flag(std::string_view flag) const;

  std::shared_ptr<const OptionTable> table_;
  std::vector<OptionValue> values_;
  std::vector<std::string> sources_;
};

struct ParsedOptions {
  std::optional<Options> options;  // empty: the call asked for text, e.g. --help
  std::string answer;              // that text, for stdout
};

// `arguments` without the program's name. Throws Error(usage) with a hint that names the nearest
// flag, key or choice.
ParsedOptions parse_options(const OptionTable& table, const std::vector<std::string>& arguments);
// tell_idle() by the rules of the table.
void check_used(const Options& options, const OptionTable& table);
// Values of a TOML file into `options`; unknown sections and keys are errors with file and line;
// where `keys` are given, other keys of the file are passed over.
void apply_toml(Options& options, const OptionTable& table, const std::filesystem::path& file,
                const std::vector<std::string>* keys = nullptr);
// The names under "preset" at the top of a TOML file.
std::vector<std::string> presets_named_in(const std::filesystem::path& file);
// Names of all flags of a spec: {"-b", "--batch-size"}.
std::vector<std::string> flag_names(const OptionSpec& spec);
// The one that messages use: the first long one, or the name of a positional argument.
std::string shown_flag(const OptionSpec& spec);

}  // namespace mullion
