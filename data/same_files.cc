// Files are the same where device and inode are.
#include "data/same_files.h"

#include <sys/stat.h>

#include <map>
#include <utility>

#include "tensor/check.h"

namespace mullion {

std::vector<std::string> repeated_files(const std::vector<std::filesystem::path>& files) {
  std::map<std::pair<dev_t, ino_t>, std::filesystem::path> first;
  std::vector<std::string> repeated;
  for (const std::filesystem::path& file : files) {
    struct stat s {};
    if (::stat(file.c_str(), &s) != 0 || !S_ISREG(s.st_mode)) continue;
    const auto [place, is_new] = first.try_emplace({s.st_dev, s.st_ino}, file);
    if (is_new) continue;
    const bool same_path = place->second == file;
    repeated.push_back(same_path ? concat(file.string(), " is there again")
                                 : concat(file.string(), " is ", place->second.string(), " again"));
  }
  return repeated;
}

}  // namespace mullion
