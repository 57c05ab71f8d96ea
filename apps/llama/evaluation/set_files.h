// Which sets of a collection (LongBench, L-Eval) are evaluated, and the files they are in.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace mullion {

// "closed": names that stand for several sets, of which those are taken that are there.
struct SetGroup {
  std::string name;
  std::function<bool(size_t set)> has;
};

struct SetCollection {
  std::string name;  // "leval", in messages
  std::vector<std::string> sets;
  std::vector<SetGroup> groups;
  std::map<std::string, std::string> refused = {};  // a set and why it is not evaluated
};

struct SetFile {
  size_t set;  // in SetCollection::sets
  std::filesystem::path file;
};

// The sets of `asked` (--tasks), each once, in its order; their files are SET.jsonl in `data` or in
// a folder inside it. A group's sets that are not there are named. Error(usage) for a name that is
// no set, or where a file is there twice; Error(bad_file) where a named one's file is not there, or
// nothing is.
std::vector<SetFile> chosen_sets(const SetCollection& collection,
                                 const std::vector<std::string>& asked,
                                 const std::filesystem::path& data);

}  // namespace mullion
