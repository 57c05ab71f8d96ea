// Everything Mullion does that changes a disk, one function an operation. Checkpoints, logs and
// weights are written through here and nowhere else, so that a test can fail, or end the process
// at, the n-th operation, and can record them all to find out what a power cut would leave.
// A refusal by the system is Error(disk) with the path and the reason. EINTR and short writes are
// looped over; a failed fsync is final (the kernel may have dropped the pages) and never repeated.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace mullion {

struct FileOp {
  const char* name;                  // "create", "write", "sync", "rename", ...
  std::filesystem::path path;        // the file or folder it is done to
  std::filesystem::path target;      // rename: the new name; link: what it points to
  uint64_t offset = 0;               // write
  std::span<const std::byte> bytes;  // write
};

// For tests: called before each operation; 0 lets it happen, an errno makes it fail with that.
// An empty hook removes it.
using FileHook = std::function<int(const FileOp&)>;
void set_file_hook(FileHook hook);

// Descriptors: closed on exec, links are not followed.
int create_file(const std::filesystem::path& path);  // must not exist
int open_append(const std::filesystem::path& path);  // created where missing
void write_file(int fd, const std::filesystem::path& path, uint64_t offset,
                std::span<const std::byte> bytes);
void truncate_file(int fd, const std::filesystem::path& path, uint64_t size);
void sync_file(int fd, const std::filesystem::path& path);
void sync_path(const std::filesystem::path& path);  // of a file written and closed by someone else
void close_file(int fd, const std::filesystem::path& path);
// Create, write, sync, close: a new file that a power cut cannot take, once its folder is synced.
void write_new_file(const std::filesystem::path& path, std::string_view content);

void make_folder(const std::filesystem::path& path);  // must not exist; its parent must
// With all above it; what is there stays. For places of output, not for what is written atomically:
// set_file_hook does not hear of it.
void make_folders(const std::filesystem::path& path);
void sync_folder(const std::filesystem::path& path);
void rename_over(const std::filesystem::path& from, const std::filesystem::path& to);
// An existing `to` is an error (renameat2, RENAME_NOREPLACE).
void rename_new(const std::filesystem::path& from, const std::filesystem::path& to);
void remove_file(const std::filesystem::path& path);
void remove_tree(const std::filesystem::path& path);  // links are removed, never followed
// `link` points to `target` from now on; it never points nowhere in between.
void replace_link(const std::filesystem::path& link, const std::string& target);

}  // namespace mullion
