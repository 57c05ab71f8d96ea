// _info.json decides where it is there, else the names of the files.
#include "data/shard_files.h"

#include <algorithm>
#include <array>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "data/decode.h"
#include "data/utf8.h"
#include "tensor/check.h"
#include "tensor/io/json.h"
#include "tensor/words.h"

namespace mullion {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 4> kSplits = {"train", "val", "validation", "test"};

// The files of a folder that end in .tar, and those that look as if they would: compressed,
// unfinished, in capitals.
struct Names {
  std::vector<std::string> tars, others;
};
Names names_in(const fs::path& folder) {
  Names names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string(), lower = ascii_lower(name);
    if (name.starts_with(".") || entry.is_directory()) continue;
    if (name.ends_with(".tar"))
      names.tars.push_back(name);
    else if ((lower.find(".tar") != std::string::npos && !lower.ends_with(".tar.idx")) ||
             lower.ends_with(".tgz"))
      names.others.push_back(name);
  }
  std::sort(names.tars.begin(), names.tars.end());
  std::sort(names.others.begin(), names.others.end());
  return names;
}

bool is_of_split(const std::string& name, const std::string& split) {
  return split.empty() || name.starts_with(split + "-") || name.starts_with(split + ".t") ||
         name.find("-" + split + "-") != std::string::npos;
}

bool is_of_any_split(const std::string& name) {
  return std::any_of(kSplits.begin(), kSplits.end(),
                     [&](const char* split) { return is_of_split(name, split); });
}

void add_not_taken(ShardFiles& files, const std::string& kind,
                   const std::vector<std::string>& names) {
  if (!names.empty()) files.not_taken.push_back({kind, std::ssize(names), names[0], true});
}

// Shards are numbered, so that one that is missing shows: PREFIX000002.tar without
// PREFIX000001.tar, or a first number above 1.
std::vector<std::string> missing_numbers(const std::vector<fs::path>& shards) {
  std::map<std::string, std::map<uint64_t, std::string>> numbered;  // by what stands before
  for (const fs::path& shard : shards) {
    std::string stem = shard.stem().string();
    const size_t of = stem.rfind("-of-");  // train-00003-of-00010
    if (of != std::string::npos && number_in<uint64_t>(stem.substr(of + 4))) stem.resize(of);
    const size_t begin = stem.find_last_not_of("0123456789") + 1;
    if (const auto number = number_in<uint64_t>(stem.substr(begin)))
      numbered[stem.substr(0, begin)][*number] = shard.filename().string();
  }
  std::vector<std::string> doubts;
  for (const auto& [prefix, names] : numbered) {
    const auto first = names.begin();
    if (first->first > 1)
      doubts.push_back(concat("the numbers of the shards begin with ", printable(first->second),
                              ": are some missing?"));
    for (auto to = std::next(first), from = first; to != names.end(); from = to++)
      if (const uint64_t gap = to->first - from->first - 1; gap > 0)
        doubts.push_back(concat(gap, gap == 1 ? " shard is" : " shards are", " missing between ",
                                printable(from->second), " and ", printable(to->second)));
  }
  return doubts;
}

// _info.json as far as it is about shards, with no file in two places; null where there is none.
nlohmann::json read_info(const fs::path& folder) {
  const fs::path path = folder / "_info.json";
  if (!fs::exists(path)) return {};
  const std::string file = printable(path.string());
  nlohmann::json json = read_json_file(path);
  const nlohmann::json* splits = json.is_object() ? find_field(json, file, "splits") : nullptr;
  // Beside class folders it may be somebody's about something else.
  if (splits == nullptr && names_in(folder).tars.empty()) return {};
  CHECK_AS(Fault::bad_file, splits != nullptr && splits->is_object(), file,
           ": no object \"splits\" with the filenames of each split's shards");
  // The usual splits share no shard; "all" may list theirs once more.
  std::map<std::string, std::string> usual;
  for (const auto& [split, own] : splits->items()) {
    const bool is_usual = std::find(kSplits.begin(), kSplits.end(), split) != kSplits.end();
    std::map<std::string, std::string> other;
    for (const std::string& name : get_strings(own, file, "filenames")) {
      CHECK_AS(Fault::bad_file, fs::path(name).filename() == name && name.ends_with(".tar"), file,
               ": filenames: ", printable(name), " is no name of a .tar beside it");
      const auto [first, is_new] = (is_usual ? usual : other).emplace(name, split);
      CHECK_AS(Fault::bad_file, is_new, file, ": ", printable(name), " is listed twice: in splits.",
               printable(first->second), " and in splits.", printable(split));
    }
  }
  return json;
}

// As _info.json lists them.
ShardFiles listed_files(const fs::path& folder, const std::string& split,
                        const nlohmann::json& info) {
  ShardFiles files;
  const nlohmann::json& splits = info["splits"];
  const auto own = splits.find(split);
  if (own == splits.end()) return files;
  for (const nlohmann::json& name : (*own)["filenames"])
    files.shards.push_back(folder / name.get<std::string>());
  std::set<std::string> listed;
  for (const auto& [name, one] : splits.items())
    for (const nlohmann::json& shard : one["filenames"]) listed.insert(shard.get<std::string>());
  Names names = names_in(folder);
  std::erase_if(names.tars, [&](const std::string& name) { return listed.count(name) > 0; });
  add_not_taken(files, kUnlistedShards, names.tars);
  add_not_taken(files, kLikeShards, names.others);
  return files;
}

// A shard whose name is of two splits would be trained on and evaluated.
void check_one_split(const fs::path& shard, const std::string& split) {
  for (const std::string other : kSplits)
    CHECK_AS(Fault::bad_file,
             split.empty() || other == split || !is_of_split(shard.filename().string(), other),
             printable(shard.string()), ": has the name of a shard of ", split, " and of ", other,
             ": rename it, or list the shards of each split in _info.json");
}

}  // namespace

ShardFiles shard_files(const fs::path& folder, const std::string& split) {
  if (const nlohmann::json info = read_info(folder); !info.is_null())
    return listed_files(folder, split, info);
  ShardFiles files;
  std::vector<std::string> others, of_none;
  const Names here = names_in(folder);
  for (const std::string& name : here.tars) {
    if (is_of_split(name, split))
      files.shards.push_back(folder / name);
    else if (!is_of_any_split(name))
      of_none.push_back(name);
  }
  for (const fs::path& shard : files.shards) check_one_split(shard, split);
  for (const std::string& name : here.others)
    if (is_of_split(name, split)) others.push_back(name);
  const bool own_folder = !split.empty() && fs::is_directory(folder / split);
  if (own_folder) {
    const Names below = names_in(folder / split);
    CHECK_AS(Fault::bad_file, files.shards.empty() || below.tars.empty(),
             printable(folder.string()), ": shards of ", split, " here, ",
             files.shards.empty() ? "" : printable(files.shards[0].filename().string()),
             ", and in the folder ", split, ", ",
             below.tars.empty() ? "" : printable(below.tars[0]), ": one of them has to go");
    if (files.shards.empty()) others.clear(), of_none.clear();  // archives beside what is read
    for (const std::string& name : below.tars) files.shards.push_back(folder / split / name);
    for (const std::string& name : below.others) others.push_back(split + "/" + name);
  }
  CHECK_AS(Fault::bad_file, !files.shards.empty() || others.empty(), printable(folder.string()),
           ": ", others.empty() ? "" : printable(others.front()),
           ": no shard that can be read, as its name does not end in .tar: unpack compressed ones "
           "(gunzip), get unfinished ones whole, rename others");
  add_not_taken(files, kLikeShards, others);
  add_not_taken(files, kOfNoSplit, of_none);
  files.doubts = missing_numbers(files.shards);
  return files;
}

std::vector<fs::path> find_shards(const fs::path& folder, const std::string& split) {
  return shard_files(folder, split).shards;
}

std::vector<std::string> listed_splits(const fs::path& folder) {
  std::vector<std::string> names;
  if (const nlohmann::json info = read_info(folder); !info.is_null())
    for (const auto& [name, own] : info["splits"].items()) names.push_back(name);
  return names;
}

}  // namespace mullion
