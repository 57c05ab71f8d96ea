// Tar archives (POSIX ustar and pax, GNU long names), read in place: a member is a name and a range
// of bytes. Nothing is extracted and no name becomes a path here. Everything is checked before it
// is used: checksums, sizes against the archive, the two zero blocks at the end, behind which only
// zeros may stand: a zeroed header or a second archive behind the first would hide what follows.
// Names that are absolute or hold "..", links, devices and sparse files are refused by name;
// folders are passed over.
#pragma once
#include <cstdint>
#include <string>

#include "tensor/io/file.h"

namespace mullion {

struct TarMember {
  std::string name;               // without a leading "./"
  uint64_t offset = 0, size = 0;  // of its bytes in the source
};

class TarReader {
 public:
  // The archive in bytes [begin, begin + size) of the source, which must outlive the reader; `name`
  // is for messages.
  TarReader(const ByteSource& source, uint64_t begin, uint64_t size, std::string name);
  explicit TarReader(const ByteSource& source);

  // The next regular file; false at the end. Throws bad_file, naming archive and byte.
  bool next(TarMember& member);

 private:
  struct Extended;  // what a pax header says of the next member
  [[noreturn]] void wrong(uint64_t at, const std::string& what) const;
  std::string read_text(uint64_t at, uint64_t size) const;
  void read_pax(uint64_t at, uint64_t size, Extended& extended) const;
  void check_end(uint64_t at) const;

  const ByteSource& source_;
  uint64_t begin_, end_, at_;
  std::string name_;
};

// The 512 bytes before a regular file's content and the bytes that fill its last block; the same
// for the same arguments (mode 0644, time 0, owner root). Names of up to 100 bytes.
std::string tar_header(const std::string& name, uint64_t size);
inline uint64_t tar_padding(uint64_t size) { return (512 - size % 512) % 512; }

// Whether a header at the start of `block` (512 bytes) is that of a regular file of this size.
bool is_tar_header(const char* block, uint64_t size);

}  // namespace mullion
