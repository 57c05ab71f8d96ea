// Two forms of files, and WordNet's own list where the ids are of it.
#include "apps/tic/class_names.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "apps/program/log.h"
#include "data/decode.h"
#include "tensor/check.h"
#include "tensor/io/file.h"
#include "tensor/io/json.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;
using Names = std::map<std::string, std::string>;
constexpr uint64_t kMostBytes = 16 << 20;

Names from_json(const fs::path& file) {
  const nlohmann::json json = read_json_file(file);
  CHECK_AS(Fault::bad_file, json.is_object(), file.string(), ": no object of [id, name]");
  Names names;
  for (const auto& [place, entry] : json.items()) {
    CHECK_AS(Fault::bad_file,
             entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string(),
             file.string(), ": entry ", place, " is no [id, name]");
    const auto id = entry[0].get<std::string>();
    CHECK_AS(Fault::bad_file, names.emplace(id, entry[1].get<std::string>()).second, file.string(),
             ": entry ", place, ": ", printable(id), " has a name already");
  }
  return names;
}

Names from_lines(const fs::path& file) {
  const std::string text = read_whole_file(file, kMostBytes);
  Names names;
  int64_t number = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (line.empty()) continue;
    const size_t space = line.find(' ');
    // A list of names alone has no ids to go by.
    const bool has_id = space != line.npos && space == 9 && line[0] == 'n' &&
                        std::all_of(line.begin() + 1, line.begin() + 9,
                                    [](char c) { return c >= '0' && c <= '9'; });
    CHECK_AS(Fault::bad_file, has_id, file.string(), ", line ", number,
             ": expected a WordNet id, n and 8 digits, a space and a name");
    CHECK_AS(Fault::bad_file, names.emplace(line.substr(0, space), line.substr(space + 1)).second,
             file.string(), ", line ", number, ": ", line.substr(0, space), " has a name already");
  }
  return names;
}

}  // namespace

std::string shown_class(const std::string& id, const std::string& name) {
  return name.empty() ? id : id + " " + name;
}

void add_class_names_option(OptionTable& table, const std::string& what) {
  table.add_optional<fs::path>("data.class_names", "--class-names",
                               "imagenet_class_index.json or synset_words.txt, names of the "
                               "classes (default: " +
                                   what + ")");
}

std::optional<fs::path> class_names_beside(const fs::path& folder) {
  for (const char* name :
       {"imagenet_class_index.json", "synset_words.txt", "LOC_synset_mapping.txt"})
    if (fs::is_regular_file(folder / name)) return folder / name;
  return std::nullopt;
}

std::vector<std::string> read_class_names(const fs::path& file,
                                          const std::vector<std::string>& classes) {
  const Names names = file.extension() == ".json" ? from_json(file) : from_lines(file);
  std::vector<std::string> list;
  for (const std::string& id : classes) {
    const auto found = names.find(id);
    list.push_back(found == names.end() ? "" : found->second);
  }
  return list;
}

std::vector<std::string> class_names(const Options& options, const fs::path& folder,
                                     const std::vector<std::string>& classes) {
  const bool asked = options.has("data.class_names");
  const auto file =
      asked ? std::optional(options.get<fs::path>("data.class_names")) : class_names_beside(folder);
  if (!file) return {};
  std::vector<std::string> names = read_class_names(*file, classes);
  const auto found = std::count_if(names.begin(), names.end(),
                                   [](const std::string& name) { return !name.empty(); });
  CHECK_AS(Fault::bad_file, !asked || found > 0, file->string(), ": has a name for none of the ",
           classes.size(), " classes, ", classes[0], ", ...");
  if (found == 0) {
    log_warning(file->string(), ": has a name for none of the ", classes.size(), " classes (",
                classes[0], ", ...), which go without names");
    return {};
  }
  log_info(file->string(), ": names of ", found, " of ", classes.size(), " classes");
  return names;
}

}  // namespace mullion
