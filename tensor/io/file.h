// Bytes of files: reading at offsets with the file's identity watched, and writing that either
// leaves the whole new file or leaves the old one. Names that come out of files are opened only
// beneath their folder (open_beneath). Everything throws Error: bad_file for content, disk for
// what the system refuses while writing. A Git LFS pointer in place of a file is refused as such
// wherever files are opened.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace mullion {

// Random access to a fixed number of bytes. read_at may be called from several threads.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  virtual uint64_t size() const = 0;
  virtual const std::string& name() const = 0;  // for errors
  // Fills dst from `offset`; a range outside the source is an error.
  virtual void read_at(uint64_t offset, std::span<std::byte> dst) const = 0;
};

// Throws for the contents of a Git LFS pointer, which a clone leaves where the large files were not
// fetched; the error names the size of the file in whose place it stands.
void refuse_lfs_pointer(std::string_view contents, const std::string& name);

// A regular file. Size and modification time are compared again after every read.
std::unique_ptr<ByteSource> open_file(const std::filesystem::path& path);
// The regular file `basename` in `folder`: never a path, a device, or a symbolic link but those of
// a Hugging Face cache, from a snapshot into the blobs of the same repository.
std::unique_ptr<ByteSource> open_beneath(const std::filesystem::path& folder,
                                         const std::string& basename);
// Bytes in memory, which must outlive the source.
std::unique_ptr<ByteSource> view_bytes(std::span<const std::byte> bytes, std::string name);

std::string read_whole_file(const std::filesystem::path& path, uint64_t max_bytes);

// A file written beside its final name and moved there by commit(): fsync, rename, fsync of the
// folder. Without commit() the destructor removes it.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write_at(uint64_t offset, std::span<const std::byte> bytes);
  void commit();

 private:
  std::filesystem::path path_, temporary_;
  int fd_ = -1;
};

void write_whole_file(const std::filesystem::path& path, std::string_view content);

}  // namespace mullion
