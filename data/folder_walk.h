// The walk over one tree of pictures: which files are samples, which entries are not and why.
#pragma once
#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "data/image_folder.h"

namespace mullion {

// Whether the name ends as those of pictures that are read, .jpg, .jpeg or .png in any case.
bool is_picture_name(const std::string& path);

// A picture's file: its path below the folder that was asked for, and its size.
struct WalkedFile {
  std::string name;
  int64_t bytes = 0;
};

class FolderWalk {
 public:
  FolderWalk(std::string root, bool follow_links);

  // The folders directly below the root, in byte order.
  std::vector<std::string> classes();
  // The pictures at any depth below a class folder, relative to it, in byte order.
  std::vector<WalkedFile> pictures(const std::string& class_name);
  // Those of the whole tree, the root's own among them, relative to the root, in byte order.
  std::vector<WalkedFile> all_pictures();

  const std::vector<NotTaken>& not_taken() const { return not_taken_; }
  // "b/x is the same folder as a": found where links or mounts show one folder in two classes.
  const std::vector<std::string>& shared() const { return shared_; }

 private:
  using Id = std::pair<dev_t, ino_t>;
  enum class Kind { folder, file, other };

  // All paths are relative to the root. `bytes`: the size of a file.
  Kind kind(const std::string& path, int64_t& bytes);
  std::vector<std::string> names_in(const std::string& folder);
  void below(const std::string& class_name, const std::string& prefix,
             std::vector<WalkedFile>& out);
  Id id(const std::string& folder) const;
  void pass_over(const std::string& kind, const std::string& path, bool picture = false);
  void pass_over_file(const std::string& path);

  std::string root_;
  bool follow_links_;
  std::vector<Id> above_;            // the folders that the walk is in, the root first
  std::set<Id> seen_;                // in this class
  std::map<Id, std::string> owner_;  // the path by which a folder was met first
  std::vector<NotTaken> not_taken_;
  std::vector<std::string> shared_;
};

}  // namespace mullion
