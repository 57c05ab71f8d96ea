// Tensors by name, whatever holds them: one safetensors file, a sharded folder, a GGUF file.
// Shapes are row-major (the last dimension is contiguous) in every source. Reading is safe from
// several threads and uses memory for a few blocks beyond the destination.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor/io/stored_type.h"

namespace mullion {

struct TensorEntry {
  std::string name;
  StoredType type = StoredType::f32;
  std::vector<int64_t> shape;
  uint64_t count = 0;   // elements
  uint64_t bytes = 0;   // in the file
  uint64_t offset = 0;  // where its source finds it; of no meaning to others
};

// "[2, 3]", as errors show shapes.
std::string shape_text(std::span<const int64_t> shape);

class TensorSource {
 public:
  virtual ~TensorSource() = default;

  const std::string& name() const { return name_; }  // of the file or folder, for errors
  const std::vector<TensorEntry>& entries() const { return entries_; }  // in file order
  std::vector<std::string> names() const;
  const TensorEntry* find(std::string_view name) const;  // null where absent
  const TensorEntry& at(std::string_view name) const;    // an error where absent

  // Stored bytes [begin, begin + dst.size()) of a tensor.
  virtual void read_bytes(const TensorEntry& entry, uint64_t begin,
                          std::span<std::byte> dst) const = 0;
  // All stored bytes of a tensor; dst has exactly entry.bytes.
  void read_raw(std::string_view name, std::span<std::byte> dst) const;
  // All elements in f32: floats are converted, block formats dequantised; integers are refused, and
  // so are values that are not finite. dst has room for entry.count.
  void read_f32(std::string_view name, float* dst) const;
  // The same into bf16, rounded to nearest even; bytes that are bf16 already are kept.
  void read_bf16(std::string_view name, bf16* dst) const;
  // What the file calls the tensor, and where in it stands what is read as its `element`: for
  // errors of a view that has other names, or another order.
  struct Place {
    std::string name;
    uint64_t element = 0;
  };
  virtual Place place_in_file(const TensorEntry& entry, uint64_t element) const {
    return {entry.name, element};
  }

 protected:
  explicit TensorSource(std::string name) : name_(std::move(name)) {}
  void add(TensorEntry entry);  // refuses a second tensor of the same name

 private:
  template <typename Store>
  void read_floats(std::string_view name, const Store& store) const;

  std::string name_;
  std::vector<TensorEntry> entries_;
  std::unordered_map<std::string, size_t> index_;
};

}  // namespace mullion
