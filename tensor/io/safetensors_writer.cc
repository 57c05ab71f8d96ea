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
    : file_(path), path_(path.string()) {
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
    const std::string what = path_ + ": " + spec.name;
    const StoredType type = stored_type_of(spec.dtype);
    const uint64_t bytes = stored_bytes(type, checked_count(spec.shape, what), 1, what);
    CHECK(spec.name != "__metadata__" && ranges_.emplace(spec.name, Range{at, bytes}).second, what,
          ": two tensors of this name, or a reserved one");
    const uint64_t end = checked_add(at, bytes, what);
    header[spec.name] = {
        {"dtype", name_of(type)}, {"shape", spec.shape}, {"data_offsets", {at, end}}};
    at = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  file_.write_at(0, std::as_bytes(std::span(&length, 1)));
  file_.write_at(8, std::as_bytes(std::span(text)));
  for (auto& [name, range] : ranges_) range.begin += 8 + length;
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  const auto found = ranges_.find(name);
  CHECK(found != ranges_.end(), path_, ": ", name, " was not announced to the writer");
  Range& range = found->second;
  CHECK(!range.written, path_, ": ", name, " is written twice");
  CHECK(bytes.size() == range.bytes, path_, ": ", name, ": ", bytes.size(), " bytes given, ",
        range.bytes, " announced");
  file_.write_at(range.begin, bytes);
  range.written = true;
}

void SafetensorsWriter::commit() {
  for (const auto& [name, range] : ranges_) {
    CHECK(range.written, path_, ": ", name, " was never written");
  }
  file_.commit();
}

}  // namespace mullion
