// Each asks the hook of the tests first, then the system, and turns errno into an Error(disk).
#include "tensor/io/file_ops.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "tensor/check.h"

namespace mullion {

namespace {
namespace fs = std::filesystem;

FileHook& file_hook() {
  static FileHook hook;
  return hook;
}

// True: the operation may happen. False: errno says why a test wants it to fail.
bool allowed(const FileOp& op) {
  if (!file_hook()) return true;
  const int error = file_hook()(op);
  if (error != 0) errno = error;
  return error == 0;
}

[[noreturn]] void refused(const fs::path& path, const char* what) {
  const int error = errno;
  fail(Fault::disk, path.string(), ": cannot ", what, ": ", std::strerror(error));
}

int open_with(const char* name, const fs::path& path, int flags) {
  int fd = -1;
  do {
    fd = allowed({name, path, {}, 0, {}})
             ? ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, 0666)
             : -1;
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) refused(path, name);
  return fd;
}
}  // namespace

void set_file_hook(FileHook hook) { file_hook() = std::move(hook); }

int create_file(const fs::path& path) {
  return open_with("create", path, O_WRONLY | O_CREAT | O_EXCL);
}
int open_append(const fs::path& path) {
  return open_with("append", path, O_WRONLY | O_CREAT | O_APPEND);
}

void write_file(int fd, const fs::path& path, uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    ssize_t n = -1;
    if (allowed({"write", path, {}, offset, bytes})) {
      n = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    }
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = n == 0 ? ENOSPC : errno;
      fail(Fault::disk, path.string(), ": cannot write ", bytes.size(), " bytes at ", offset, ": ",
           std::strerror(error));
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
}

void truncate_file(int fd, const fs::path& path, uint64_t size) {
  if (!allowed({"truncate", path, {}, size, {}}) ||
      ::ftruncate(fd, static_cast<off_t>(size)) != 0) {
    refused(path, "truncate");
  }
}

void sync_file(int fd, const fs::path& path) {
  if (!allowed({"sync", path, {}, 0, {}}) || ::fsync(fd) != 0) refused(path, "sync");
}

void sync_path(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) refused(path, "open");
  const bool synced = allowed({"sync", path, {}, 0, {}}) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  errno = error;
  if (!synced) refused(path, "sync");
}

void close_file(int fd, const fs::path& path) {
  const bool may = allowed({"close", path, {}, 0, {}});
  const int error = errno;
  // Linux frees the descriptor whatever close() says.
  const bool closed = ::close(fd) == 0;
  if (!may) errno = error;
  if (!may || (!closed && errno != EINTR)) refused(path, "close");
}

void write_new_file(const fs::path& path, std::string_view content) {
  const int fd = create_file(path);
  try {
    write_file(fd, path, 0, std::as_bytes(std::span(content)));
    sync_file(fd, path);
  } catch (...) {
    ::close(fd);
    throw;
  }
  close_file(fd, path);
}

void make_folder(const fs::path& path) {
  if (!allowed({"mkdir", path, {}, 0, {}}) || ::mkdir(path.c_str(), 0777) != 0) {
    refused(path, "create the folder");
  }
}

void make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  CHECK_AS(Fault::disk, !error && fs::is_directory(path), path.string(),
           ": cannot create the folder: ", error ? error.message() : "a file is there");
}

void sync_folder(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) refused(path, "open the folder");
  const bool synced = allowed({"sync folder", path, {}, 0, {}}) && ::fsync(fd) == 0;
  const int error = errno;
  ::close(fd);
  errno = error;
  if (!synced) refused(path, "sync the folder");
}

void rename_over(const fs::path& from, const fs::path& to) {
  if (!allowed({"rename", from, to, 0, {}}) || ::rename(from.c_str(), to.c_str()) != 0) {
    refused(to, concat("move ", from.string(), " there").c_str());
  }
}

void rename_new(const fs::path& from, const fs::path& to) {
  if (!allowed({"rename", from, to, 0, {}})) refused(to, "move the new file there");
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return;
  // Some file systems do not know the flag; a look beforehand is what remains.
  if (errno == EINVAL && !fs::exists(fs::symlink_status(to))) {
    if (::rename(from.c_str(), to.c_str()) == 0) return;
  }
  refused(to, concat("move ", from.string(), " there").c_str());
}

void remove_file(const fs::path& path) {
  if (!allowed({"unlink", path, {}, 0, {}}) || ::unlink(path.c_str()) != 0) refused(path, "remove");
}

void remove_tree(const fs::path& path) {
  if (!fs::is_directory(fs::symlink_status(path))) {
    remove_file(path);
    return;
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path, error)) remove_tree(entry.path());
  if (!allowed({"rmdir", path, {}, 0, {}}) || ::rmdir(path.c_str()) != 0) refused(path, "remove");
}

void replace_link(const fs::path& link, const std::string& target) {
  const fs::path next = link.parent_path() / (".tmp-link-" + link.filename().string());
  ::unlink(next.c_str());  // left by a process that was killed here
  if (!allowed({"link", next, target, 0, {}}) || ::symlink(target.c_str(), next.c_str()) != 0) {
    refused(link, "create the link");
  }
  rename_over(next, link);
}

}  // namespace mullion
