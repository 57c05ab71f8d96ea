// A sibling with a lock beside it; commit() syncs and renames.
#include "tensor/io/atomic_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <vector>

#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/file_place.h"

namespace mullion {
namespace {
namespace fs = std::filesystem;

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

bool is_empty_folder(const fs::path& path) {
  return fs::is_directory(fs::symlink_status(path)) && fs::is_empty(path);
}

// "out/" names the folder "out".
fs::path without_slash(const fs::path& path) {
  return path.filename().empty() && path.has_parent_path() ? path.parent_path() : path;
}

int lock_of(const fs::path& folder) {
  const int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

// What killed processes left of the same path. Where the file system has no locks, none is got, and
// everything stays.
void remove_left_over(const fs::path& path) {
  const std::string prefix = concat(".", path.filename().string(), ".tmp-");
  std::vector<fs::path> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(parent_of(path), ignored))
    if (entry.path().filename().string().starts_with(prefix)) found.push_back(entry.path());
  for (const fs::path& folder : found) {
    const int lock = lock_of(folder);
    if (lock < 0) continue;
    fs::remove_all(folder, ignored);
    ::close(lock);
  }
}
}  // namespace

AtomicFolder::AtomicFolder(const fs::path& path) : path_(without_slash(path)) {
  if (fs::exists(fs::symlink_status(path_)) && !is_empty_folder(path_))
    throw Error(path_.string() + ": exists and is no empty folder", Fault::usage,
                "another name, or remove it first");
  refuse_missing_folder(parent_of(path_), path_);
  remove_left_over(path_);
  static std::atomic<unsigned> counter{0};
  do {  // again where another process took it for a left-over one before it was locked
    if (lock_ >= 0) ::close(lock_);
    temporary_ = parent_of(path_) / concat(".", path_.filename().string(), ".tmp-", ::getpid(), "-",
                                           counter.fetch_add(1));
    make_folder(temporary_);
    lock_ = lock_of(temporary_);
  } while (!fs::exists(temporary_));
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(temporary_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::directory_iterator(temporary_)) sync_path(entry.path());
  sync_folder(temporary_);
  rename_over(temporary_, path_);  // which takes the place of an empty folder and of nothing else
  done_ = true;
  sync_folder(parent_of(path_));
}

}  // namespace mullion
