// Writing. Offsets are fixed by the specs, so tensors may come in any order.
#include <algorithm>
#include <nlohmann/json.hpp>

#include "tensor/check.h"
#include "tensor/io/checked.h"
#include "tensor/io/safetensors.h"

namespace mullion {

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path,
                                     std::vector<TensorSpec> specs,
                                     std::map<std::string, std::string> metadata)
    : file_(path) {
  std::sort(specs.begin(), specs.end(), [](const TensorSpec& a, const TensorSpec& b) {
    const auto size_a = size_of(a.dtype), size_b = size_of(b.dtype);
    return size_a != size_b ? size_a > size_b : a.name < b.name;
  });
  metadata.emplace("format", "pt");
  // Ordered as laid out: the header is read by people too.
  nlohmann::ordered_json header;
  header["__metadata__"] = metadata;
  uint64_t at = 0;
  for (const TensorSpec& spec : specs) {
    const std::string what = file_.path() + ": " + spec.name;
    const StoredType type = stored_type_of(spec.dtype);
    const uint64_t bytes = stored_bytes(type, checked_count(spec.shape, what), 1, what);
    CHECK(spec.name != "__metadata__" && file_.announce(spec.name, at, bytes), what,
          ": two tensors of this name, or a reserved one");
    const uint64_t end = checked_add(at, bytes, what);
    header[spec.name] = {
        {"dtype", name_of(type)}, {"shape", spec.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  file_.write_header(std::string(reinterpret_cast<const char*>(&length), sizeof length) + text);
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  file_.write(name, bytes);
}

void SafetensorsWriter::commit() { file_.commit(); }

}  // namespace mullion
