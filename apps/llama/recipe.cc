// TOML section by section, keys asked for by name; rows are scaled by the largest remainders.
#include "apps/llama/recipe.h"

#include <toml++/toml.h>

#include <algorithm>
#include <numeric>

#include "tensor/check.h"
#include "tensor/io/file.h"

namespace mullion {
namespace {

class Section {
 public:
  Section(const std::string& file, const toml::table& table, std::string name)
      : file_(file), table_(table), name_(std::move(name)) {}

  void allow(const std::vector<std::string>& keys) const {
    for (const auto& [key, node] : table_)
      if (std::find(keys.begin(), keys.end(), key.str()) == keys.end())
        fail(Fault::usage, file_, ":", node.source().begin.line, ": unknown key ", key.str(),
             " in ", name_);
  }
  std::string text(const char* key, bool needed = false) const {
    return get<std::string>(key, needed, "text").value_or("");
  }
  int64_t count(const char* key, int64_t otherwise, bool needed = false) const {
    const int64_t value = get<int64_t>(key, needed, "an integer").value_or(otherwise);
    CHECK_AS(Fault::usage, value >= 0, where(key), " is ", value);
    return value;
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> values;
    const toml::array* list = table_[key].as_array();
    CHECK_AS(Fault::usage, list && !list->empty(), where(key), ": a list of patterns is needed");
    for (const toml::node& node : *list) {
      const auto value = node.value_exact<std::string>();
      CHECK_AS(Fault::usage, value.has_value(), where(key), ": an element is no text");
      values.push_back(*value);
    }
    return values;
  }
  std::string where(const char* key) const {
    const toml::node* node = table_.get(key);
    return concat(file_, ":", (node ? node->source() : table_.source()).begin.line, ": ", name_,
                  ".", key);
  }

 private:
  template <typename T>
  std::optional<T> get(const char* key, bool needed, const char* kind) const {
    const toml::node* node = table_.get(key);
    CHECK_AS(Fault::usage, node || !needed, where(key), " is missing");
    if (!node) return std::nullopt;
    const auto value = node->value_exact<T>();
    CHECK_AS(Fault::usage, value.has_value(), where(key), " is not ", kind);
    return value;
  }

  const std::string& file_;
  const toml::table& table_;
  const std::string name_;
};

RecipeSource read_source(const std::string& file, const toml::table& table) {
  const Section section(file, table, "source");
  section.allow({"name", "rows", "files", "licence", "url", "task"});
  RecipeSource source;
  source.name = section.text("name", true);
  source.licence = section.text("licence", true);
  source.url = section.text("url");
  source.rows = section.count("rows", 0, true);
  source.files = section.texts("files");
  if (const std::string task = section.text("task"); !task.empty()) {
    source.task = book_task(task);
    CHECK_AS(Fault::usage, source.task.has_value(), section.where("task"), ": ", task,
             " is none of cloze, retrieval, opening, continuation");
  }
  return source;
}

}  // namespace

Recipe read_recipe(const std::filesystem::path& path) {
  const std::string file = path.string();
  toml::table root;
  try {
    root = toml::parse(read_whole_file(path, 1 << 20), file);
  } catch (const toml::parse_error& error) {
    fail(Fault::usage, file, ":", error.source().begin.line, ": ", error.description());
  }
  Section(file, root, "the file").allow({"recipe", "source"});
  const toml::table* head = root["recipe"].as_table();
  const toml::array* sources = root["source"].as_array();
  CHECK_AS(Fault::usage, head && sources, file, ": [recipe] and [[source]] are needed");
  const Section section(file, *head, "recipe");
  section.allow({"name", "rows", "seed", "min_tokens", "max_tokens"});
  Recipe recipe;
  recipe.name = section.text("name", true);
  recipe.rows = section.count("rows", 0, true);
  recipe.seed = static_cast<uint64_t>(section.count("seed", 42));
  recipe.min_tokens = section.count("min_tokens", 0);
  recipe.max_tokens = section.count("max_tokens", 0);
  int64_t sum = 0;
  for (const toml::node& node : *sources) {
    CHECK_AS(Fault::usage, node.is_table(), file, ": a source is no table");
    RecipeSource source = read_source(file, *node.as_table());
    for (const RecipeSource& other : recipe.sources)
      CHECK_AS(Fault::usage, other.name != source.name, file, ":", node.source().begin.line,
               ": source.name: ", source.name, " is there twice");
    recipe.sources.push_back(std::move(source));
    sum += recipe.sources.back().rows;
  }
  CHECK_AS(Fault::usage, sum == recipe.rows, file, ": recipe.rows is ", recipe.rows,
           ", but the sources' rows are ", sum, " together");
  return recipe;
}

void scale_rows(Recipe& recipe, int64_t rows) {
  const auto total = static_cast<double>(recipe.rows);
  std::vector<std::pair<double, size_t>> remainders;
  int64_t given = 0;
  for (size_t i = 0; i < recipe.sources.size(); ++i) {
    const double share = static_cast<double>(recipe.sources[i].rows) / total;
    const double exact = share * static_cast<double>(rows);
    recipe.sources[i].rows = static_cast<int64_t>(exact);
    given += recipe.sources[i].rows;
    remainders.emplace_back(static_cast<double>(recipe.sources[i].rows) - exact, i);
  }
  std::stable_sort(remainders.begin(), remainders.end());
  for (size_t i = 0; given < rows; ++i, ++given)
    ++recipe.sources[remainders[i % remainders.size()].second].rows;
  recipe.rows = rows;
}

}  // namespace mullion
