// POSIX files, read here and written through file_ops.h. When a step of writing fails, the attempt
// fails and its temporary file goes.
#include "tensor/io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "tensor/check.h"
#include "tensor/io/file_ops.h"
#include "tensor/io/file_place.h"

namespace mullion {

namespace {
std::string why() { return std::strerror(errno); }

// The pointer of a file is "smaller than 1024 bytes", says the specification.
constexpr size_t kMaxLfsPointer = 1024;

class FileBytes : public ByteSource {
 public:
  FileBytes(int fd, std::string name) : fd_(fd), name_(std::move(name)) {
    try {
      CHECK_AS(Fault::bad_file, ::fstat(fd_, &opened_) == 0 && S_ISREG(opened_.st_mode), name_,
               ": not a regular file");
      if (size() <= kMaxLfsPointer) {
        char text[kMaxLfsPointer];
        const ssize_t n = ::pread(fd_, text, sizeof(text), 0);
        refuse_lfs_pointer({text, n > 0 ? static_cast<size_t>(n) : 0}, name_);
      }
    } catch (const Error&) {
      ::close(fd_);
      throw;
    }
  }
  ~FileBytes() override { ::close(fd_); }
  uint64_t size() const override { return static_cast<uint64_t>(opened_.st_size); }
  const std::string& name() const override { return name_; }

  void read_at(uint64_t offset, std::span<std::byte> dst) const override {
    CHECK_AS(Fault::bad_file, offset <= size() && dst.size() <= size() - offset, name_, ": bytes ",
             offset, " + ", dst.size(), " are outside its ", size());
    size_t done = 0;
    while (done < dst.size()) {
      const ssize_t n =
          ::pread(fd_, dst.data() + done, dst.size() - done, static_cast<off_t>(offset + done));
      if (n < 0 && errno == EINTR) continue;
      CHECK_AS(Fault::bad_file, n >= 0, name_, ": cannot read: ", why());
      CHECK_AS(Fault::bad_file, n > 0, name_, ": became shorter while it was read");
      done += static_cast<size_t>(n);
    }
    struct stat now {};
    CHECK_AS(Fault::bad_file,
             ::fstat(fd_, &now) == 0 && now.st_size == opened_.st_size &&
                 now.st_mtim.tv_sec == opened_.st_mtim.tv_sec &&
                 now.st_mtim.tv_nsec == opened_.st_mtim.tv_nsec,
             name_, ": changed while it was read");
  }

 private:
  int fd_;
  std::string name_;
  struct stat opened_ {};
};

class MemoryBytes : public ByteSource {
 public:
  MemoryBytes(std::span<const std::byte> bytes, std::string name)
      : bytes_(bytes), name_(std::move(name)) {}
  uint64_t size() const override { return bytes_.size(); }
  const std::string& name() const override { return name_; }
  void read_at(uint64_t offset, std::span<std::byte> dst) const override {
    CHECK_AS(Fault::bad_file, offset <= size() && dst.size() <= size() - offset, name_, ": bytes ",
             offset, " + ", dst.size(), " are outside its ", size());
    if (!dst.empty()) std::memcpy(dst.data(), bytes_.data() + offset, dst.size());
  }

 private:
  std::span<const std::byte> bytes_;
  std::string name_;
};

// O_NONBLOCK: opening a pipe must not wait for its writer; it has no effect on regular files.
constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

std::filesystem::path folder_of(const std::filesystem::path& path) {
  return path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
}
}  // namespace

void refuse_lfs_pointer(std::string_view contents, const std::string& name) {
  constexpr std::string_view kSize = "\nsize ";
  if (!contents.starts_with("version https://git-lfs.github.com/spec/")) return;
  const size_t at = contents.find(kSize);
  const std::string_view rest = at == contents.npos ? "?" : contents.substr(at + kSize.size());
  const std::string_view size = rest.substr(0, rest.find_first_of("\r\n"));
  throw Error(
      concat(name, ": a Git LFS pointer, not the file of ", size, " bytes that it stands for"),
      Fault::bad_file, "git lfs pull fetches it");
}

std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), kReadFlags);
  CHECK_AS(Fault::bad_file, fd >= 0, path.string(), ": cannot open: ", why());
  return std::make_unique<FileBytes>(fd, path.string());
}

namespace {
// Where a link of a Hugging Face cache leads: .../models--X/snapshots/REVISION/FILE is a link into
// .../models--X/blobs. "" for any other link, and for one that leads out of that folder.
std::filesystem::path blob_of_link(const std::filesystem::path& folder,
                                   const std::string& basename) {
  std::error_code ignored;
  const auto here = std::filesystem::canonical(folder, ignored);
  const auto target = std::filesystem::canonical(folder / basename, ignored);
  if (here.empty() || target.empty()) return {};
  for (auto at = here; at.has_relative_path(); at = at.parent_path())
    if (at.filename() == "snapshots" && target.parent_path() == at.parent_path() / "blobs")
      return target;
  return {};
}
}  // namespace

std::unique_ptr<ByteSource> open_beneath(const std::filesystem::path& folder,
                                         const std::string& basename) {
  const std::string shown = (folder / basename).string();
  CHECK_AS(Fault::bad_file,
           !basename.empty() && basename != "." && basename != ".." && basename.size() <= 255 &&
               basename.find('/') == std::string::npos &&
               basename.find('\\') == std::string::npos && basename.find('\0') == std::string::npos,
           folder.string(), ": a file name of ", basename.size(),
           " bytes is not the name of one file in this folder: ", basename);
  const int directory = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  CHECK_AS(Fault::bad_file, directory >= 0, folder.string(), ": cannot open: ", why());
  const int fd = ::openat(directory, basename.c_str(), kReadFlags | O_NOFOLLOW);
  const int error = errno;
  ::close(directory);
  if (fd < 0 && error == ELOOP) {
    const auto blob = blob_of_link(folder, basename);
    const int opened = blob.empty() ? -1 : ::open(blob.c_str(), kReadFlags | O_NOFOLLOW);
    if (opened >= 0) return std::make_unique<FileBytes>(opened, shown);
  }
  errno = error;
  CHECK_AS(Fault::bad_file, fd >= 0, shown, ": cannot open: ",
           error == ELOOP ? "a symbolic link; copy the file itself there" : why());
  return std::make_unique<FileBytes>(fd, shown);
}

std::unique_ptr<ByteSource> view_bytes(std::span<const std::byte> bytes, std::string name) {
  return std::make_unique<MemoryBytes>(bytes, std::move(name));
}

std::string read_whole_file(const std::filesystem::path& path, uint64_t max_bytes) {
  const auto file = open_file(path);
  CHECK_AS(Fault::bad_file, file->size() <= max_bytes, path.string(), ": ", file->size(),
           " bytes, at most ", max_bytes, " are read");
  std::string content(file->size(), '\0');
  file->read_at(0, std::as_writable_bytes(std::span(content)));
  return content;
}

AtomicFile::AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
  std::error_code ignored;
  CHECK_AS(Fault::usage, path_.has_filename() && !std::filesystem::is_directory(path_, ignored),
           path_.string(), ": is a folder, not the name of a file");
  const std::filesystem::path folder = folder_of(path_);
  refuse_missing_folder(folder, path_);
  static std::atomic<unsigned> counter{0};
  temporary_ = folder / concat(".", path_.filename().string(), ".tmp-", ::getpid(), "-",
                               counter.fetch_add(1));
  try {
    fd_ = create_file(temporary_);
  } catch (const Error& error) {
    throw error.in(path_.string());
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) {
    ::close(fd_);
    ::unlink(temporary_.c_str());
  }
}

void AtomicFile::write_at(uint64_t offset, std::span<const std::byte> bytes) {
  try {
    write_file(fd_, temporary_, offset, bytes);
  } catch (const Error& error) {
    throw error.in(path_.string());
  }
}

void AtomicFile::commit() {
  try {
    sync_file(fd_, temporary_);
    close_file(std::exchange(fd_, -1), temporary_);
    rename_over(temporary_, path_);
  } catch (const Error& error) {
    ::unlink(temporary_.c_str());
    throw error.in(path_.string());
  }
  sync_folder(folder_of(path_));
}

void write_whole_file(const std::filesystem::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write_at(0, std::as_bytes(std::span(content)));
  file.commit();
}

}  // namespace mullion
