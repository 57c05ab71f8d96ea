// A folder that is there whole or not at all: written beside its final name and moved there by
// commit(). Without commit() the destructor removes what was written, and where the process was
// killed, the next one that writes to the same path does: a folder whose writer lives is locked.
#pragma once
#include <filesystem>

namespace mullion {

class AtomicFolder {
 public:
  // Error(usage) where `path` exists and is no empty folder; nothing of anybody's is ever replaced.
  explicit AtomicFolder(const std::filesystem::path& path);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  const std::filesystem::path& place() const { return temporary_; }  // where to write until then
  void commit();  // syncs every file, renames, syncs the parent

 private:
  std::filesystem::path path_, temporary_;
  int lock_ = -1;
  bool done_ = false;
};

}  // namespace mullion
