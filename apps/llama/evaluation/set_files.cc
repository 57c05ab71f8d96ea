// Names checked against the collection, with a suggestion; files that are missing are said at once.
#include "apps/llama/evaluation/set_files.h"

#include <algorithm>

#include "apps/program/log.h"
#include "tensor/check.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

// Empty: there is none.
fs::path file_of(const fs::path& data, const std::string& set) {
  std::vector<fs::path> folders = {data};
  for (const auto& entry : fs::directory_iterator(data))
    if (entry.is_directory()) folders.push_back(entry.path());
  fs::path found;
  for (const fs::path& folder : folders) {
    const fs::path file = folder / (set + ".jsonl");
    if (!fs::exists(file)) continue;
    CHECK_AS(Fault::usage, found.empty(), "--data: ", found.string(), " and ", file.string(),
             ": which of them?");
    found = file;
  }
  return found;
}

}  // namespace

std::vector<SetFile> chosen_sets(const SetCollection& collection,
                                 const std::vector<std::string>& asked, const fs::path& data) {
  CHECK_AS(Fault::bad_file, fs::is_directory(data), data.string(), ": is no folder");
  std::vector<SetFile> chosen;
  std::vector<std::string> absent, known;
  for (const SetGroup& group : collection.groups) known.push_back(group.name);
  known.insert(known.end(), collection.sets.begin(), collection.sets.end());
  const auto take = [&](size_t set, bool is_named) {
    for (const SetFile& c : chosen)
      if (c.set == set) return;
    const std::string& name = collection.sets[set];
    const fs::path file = file_of(data, name);
    CHECK_AS(Fault::bad_file, !is_named || !file.empty(), data.string(), ": has no ", name,
             ".jsonl");
    if (file.empty())
      absent.push_back(name);
    else
      chosen.push_back({set, file});
  };
  for (const std::string& name : asked) {
    const auto group =
        std::find_if(collection.groups.begin(), collection.groups.end(),
                     [&](const SetGroup& candidate) { return candidate.name == name; });
    if (group != collection.groups.end()) {
      for (size_t set = 0; set < collection.sets.size(); ++set)
        if (group->has(set)) take(set, false);
      for (const auto& [refused, why] : collection.refused)
        if (const fs::path file = file_of(data, refused); !file.empty())
          log_warning(file.string(), ": left out: ", why);
      continue;
    }
    CHECK_AS(Fault::usage, !collection.refused.contains(name), "--tasks: ", name, ": ",
             collection.refused.at(name));
    const auto set = std::find(collection.sets.begin(), collection.sets.end(), name);
    CHECK_AS(Fault::usage, set != collection.sets.end(), "--tasks: ", name, " is not one of ",
             joined(known));
    take(static_cast<size_t>(set - collection.sets.begin()), true);
  }
  CHECK_AS(Fault::bad_file, !chosen.empty(), data.string(), ": has none of ", joined(absent),
           ", each with .jsonl");
  if (!absent.empty())
    log_warning(collection.name, ": not in ", data.string(), ": ", joined(absent));
  return chosen;
}

}  // namespace mullion
