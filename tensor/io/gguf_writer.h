// Writes GGUF, version 3 (tensor/io/gguf.h reads it).
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/io/announced_file.h"
#include "tensor/io/gguf.h"

namespace mullion {

// The typed key-value pairs of a file, in the order of the calls; a key is given once.
class GgufPairs {
 public:
  GgufPairs& text(const std::string& key, std::string_view value);
  GgufPairs& u32(const std::string& key, uint64_t value);  // an error where 32 bits do not hold it
  GgufPairs& f32(const std::string& key, double value);
  GgufPairs& boolean(const std::string& key, bool value);
  GgufPairs& texts(const std::string& key, const std::vector<std::string>& values);
  GgufPairs& f32s(const std::string& key, const std::vector<float>& values);
  GgufPairs& i32s(const std::string& key, const std::vector<int32_t>& values);

  uint64_t count() const { return keys_.size(); }
  const std::string& bytes() const { return bytes_; }

 private:
  void begin(const std::string& key, GgufType type);
  void begin_array(const std::string& key, GgufType type, uint64_t count);
  std::string bytes_;
  std::vector<std::string> keys_;
};

// What the writer knows of a tensor before its bytes; the shape is row-major, as everywhere here.
struct GgufSpec {
  std::string name;  // at most 63 bytes, as ggml keeps it
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
};

// One file, tensor by tensor, so that a model is never whole in memory a second time. Tensors lie
// in the order of the specs, at multiples of 32 bytes.
class GgufWriter {
 public:
  GgufWriter(const std::filesystem::path& path, const GgufPairs& pairs,
             const std::vector<GgufSpec>& specs);
  void write(const std::string& name, std::span<const std::byte> bytes);  // in any order, once
  void commit();  // every tensor has been written; without it the file does not appear

 private:
  AnnouncedFile file_;
};

}  // namespace mullion
