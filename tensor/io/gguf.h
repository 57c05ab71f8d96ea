// GGUF, versions 2 and 3: "GGUF" | u32 version | u64 tensors | u64 pairs | typed key-value pairs |
// tensor descriptions | padding | data, each tensor padded to general.alignment. Dimensions are
// stored innermost first and turned around here. Counts and lengths are believed only as far as
// the bytes left in the file allow; the value of a key is reached through an accessor of its type.
#pragma once
#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tensor/io/file.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

enum class GgufType : uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64
};

// The number of a tensor's type in the file; an error for those that GGUF has no number for.
uint32_t ggml_type_of(StoredType type);

// By its name or its first bytes: a hub's cache has blobs without an extension.
bool is_gguf(const std::filesystem::path& path);

class GgufFile : public TensorSource {
 public:
  explicit GgufFile(const std::filesystem::path& path);
  explicit GgufFile(std::unique_ptr<ByteSource> bytes);  // e.g. view_bytes(memory)

  uint32_t version() const { return version_; }
  bool has(const std::string& key) const { return values_.contains(key); }
  std::vector<std::string> keys() const;  // in file order
  // Whether the value of a key that is there is 0, false or empty.
  bool is_off(const std::string& key) const;

  // The value of a key; absent, of another type or (integers) negative or above `max`: an error
  // naming file and key. Integers of every width are accepted, f32 and f64 alike.
  uint64_t get_uint(const std::string& key, uint64_t max) const;
  double get_number(const std::string& key) const;  // finite
  bool get_bool(const std::string& key) const;
  const std::string& get_string(const std::string& key) const;
  const std::vector<std::string>& get_strings(const std::string& key) const;
  std::vector<float> get_floats(const std::string& key) const;  // an array of f32, finite
  std::vector<int32_t> get_ints(const std::string& key) const;  // an array of i32 or u32

  // The same, none where the key is absent.
  std::optional<uint64_t> find_uint(const std::string& key, uint64_t max) const;
  std::optional<double> find_number(const std::string& key) const;
  std::optional<bool> find_bool(const std::string& key) const;
  std::optional<std::string> find_string(const std::string& key) const;

  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override;

 private:
  class Cursor;
  struct Value {
    GgufType type = GgufType::u8;  // of the value, or of the elements of an array
    bool is_array = false;
    uint64_t count = 1;
    std::string bytes;                 // numbers as stored; the text of a single string
    std::vector<std::string> strings;  // the elements of an array of strings
  };
  Value read_value(Cursor& cursor, const std::string& key) const;
  Value read_array(Cursor& cursor, const std::string& key) const;
  TensorEntry read_entry(Cursor& cursor) const;
  void place(std::vector<TensorEntry> entries, uint64_t header_end, uint64_t alignment);
  const Value& value(const std::string& key, bool is_array, std::string_view wanted) const;
  [[noreturn]] void wrong_type(const std::string& key, const Value& value,
                               std::string_view wanted) const;

  std::unique_ptr<ByteSource> bytes_;
  uint32_t version_ = 0;
  std::vector<std::string> keys_;
  std::unordered_map<std::string, Value> values_;
};

}  // namespace mullion
