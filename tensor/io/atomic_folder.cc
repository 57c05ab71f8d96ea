#include "tensor/io/atomic_folder.h"

#include <unistd.h>

#include <atomic>

#include "tensor/check.h"
#include "tensor/io/file_ops.h"

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
}  // namespace

AtomicFolder::AtomicFolder(const fs::path& path) : path_(without_slash(path)) {
  if (fs::exists(fs::symlink_status(path_)) && !is_empty_folder(path_))
    throw Error(path_.string() + ": exists and is no empty folder", Fault::usage,
                "another name, or remove it first");
  static std::atomic<unsigned> counter{0};
  temporary_ = parent_of(path_) / concat(".", path_.filename().string(), ".tmp-", ::getpid(), "-",
                                         counter.fetch_add(1));
  make_folder(temporary_);
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(temporary_, ignored);
}

void AtomicFolder::commit() {
  for (const auto& entry : fs::directory_iterator(temporary_)) sync_path(entry.path());
  sync_folder(temporary_);
  rename_over(temporary_, path_);  // which takes the place of an empty folder and of nothing else
  done_ = true;
  sync_folder(parent_of(path_));
}

}  // namespace mullion
