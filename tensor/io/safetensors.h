// safetensors: u64 header length N | N bytes of JSON | data. The header maps a name to
// {"dtype", "shape", "data_offsets": [begin, end]}, offsets counted from the end of the header.
// A file has one meaning or is refused: the ranges cover the data without overlap or hole and
// agree with shape and dtype, keys are unique, nothing follows the data.
#pragma once
#include <cstddef>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/io/announced_file.h"
#include "tensor/io/file.h"
#include "tensor/io/tensor_source.h"

namespace mullion {

class SafetensorsFile : public TensorSource {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  explicit SafetensorsFile(std::unique_ptr<ByteSource> bytes);  // e.g. view_bytes(memory)

  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  void read_bytes(const TensorEntry& entry, uint64_t begin,
                  std::span<std::byte> dst) const override;

 private:
  std::unique_ptr<ByteSource> bytes_;
  std::map<std::string, std::string> metadata_;
};

// A Hugging Face folder: model.safetensors, or the shards of model.safetensors.index.json, which
// must be regular files of the folder and hold exactly the tensors the index gives them. A path to
// a .safetensors file opens that file. `stem` is "model", or "adapter_model" for PEFT.
std::unique_ptr<TensorSource> open_safetensors(const std::filesystem::path& path,
                                               const std::string& stem = "model");

// What a writer knows of a tensor before its bytes.
struct TensorSpec {
  std::string name;
  DType dtype = DType::f32;
  std::vector<int64_t> shape;
};

// Writes one file, tensor by tensor, so that a model is never whole in memory a second time.
// Layout: by falling element size, then by name. Metadata always holds {"format": "pt"}, without
// which other readers refuse the file.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> specs,
                    std::map<std::string, std::string> metadata = {});
  void write(const std::string& name, std::span<const std::byte> bytes);  // in any order, once
  void commit();  // every tensor has been written; without it the file does not appear

 private:
  AnnouncedFile file_;
};

}  // namespace mullion
