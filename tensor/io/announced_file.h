// A file of tensors whose places are fixed by a header before their bytes come: what the writers of
// safetensors and GGUF share. It appears whole or not at all.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>

#include "tensor/io/file.h"

namespace mullion {

class AnnouncedFile {
 public:
  explicit AnnouncedFile(const std::filesystem::path& path) : file_(path), path_(path.string()) {}

  const std::string& path() const { return path_; }
  // The bytes of a tensor, `begin` counted from the end of the header. False where the name is
  // taken.
  bool announce(const std::string& name, uint64_t begin, uint64_t bytes);
  void write_header(std::string_view header);  // after all are announced
  // In any order, each once, with zeros behind up to a multiple of `alignment` bytes. Error for a
  // name or a number of bytes that was not announced, and for a second time.
  void write(const std::string& name, std::span<const std::byte> bytes, uint64_t alignment = 1);
  void commit();  // Error where a tensor has not been written; without it no file appears

 private:
  struct Range {
    uint64_t begin = 0, bytes = 0;
    bool written = false;
  };
  AtomicFile file_;
  std::string path_;
  std::map<std::string, Range> ranges_;
  uint64_t header_bytes_ = 0;
};

}  // namespace mullion
