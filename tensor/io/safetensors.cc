// Reading. The header goes through JsonReader straight into entries; names and sizes are checked
// before anything is allocated for them.
#include "tensor/io/safetensors.h"

#include <algorithm>
#include <optional>

#include "tensor/check.h"
#include "tensor/io/checked.h"
#include "tensor/io/json_reader.h"

namespace mullion {

namespace {
constexpr uint64_t kMaxHeader = 100'000'000, kMaxName = 4096;
constexpr size_t kMaxRank = 8;

std::vector<int64_t> read_shape(JsonReader& json) {
  std::vector<int64_t> shape;
  json.begin_array();
  while (json.next_element()) {
    const uint64_t size = json.read_uint();
    if (size > static_cast<uint64_t>(INT64_MAX)) json.fail("a dimension above 2^63");
    if (shape.size() == kMaxRank) json.fail(concat("more than ", kMaxRank, " dimensions"));
    shape.push_back(static_cast<int64_t>(size));
  }
  return shape;
}

std::pair<uint64_t, uint64_t> read_offsets(JsonReader& json) {
  uint64_t pair[2] = {};
  size_t n = 0;
  json.begin_array();
  for (; json.next_element(); ++n) {
    if (n == 2) json.fail("data_offsets has more than two numbers");
    pair[n] = json.read_uint();
  }
  if (n != 2) json.fail("data_offsets has fewer than two numbers");
  return {pair[0], pair[1]};
}

StoredType read_dtype(JsonReader& json) {
  const std::string dtype = json.read_string();
  const auto type = stored_type_of_safetensors(dtype);
  if (!type) json.fail(concat("unknown dtype \"", dtype.substr(0, 40), "\""));
  return *type;
}

void check_name(const JsonReader& json, const std::string& name) {
  if (name.empty()) json.fail("a tensor without a name");
  if (name.size() > kMaxName) json.fail(concat("a tensor name of ", name.size(), " bytes"));
  const bool path_like = name.find('/') != std::string::npos || name == "." || name == ".." ||
                         name.find("..") != std::string::npos;
  if (path_like || name.find('\0') != std::string::npos) {
    json.fail(concat("the tensor name \"", name.substr(0, 80), "\" has '/', '..' or a zero byte"));
  }
}

TensorEntry read_entry(JsonReader& json, const std::string& file, std::string name) {
  check_name(json, name);
  std::optional<StoredType> type;
  std::optional<std::vector<int64_t>> shape;
  std::optional<std::pair<uint64_t, uint64_t>> offsets;
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    if ((key == "dtype" && type) || (key == "shape" && shape) ||
        (key == "data_offsets" && offsets)) {
      json.fail(concat("duplicate key \"", key, "\""));
    }
    if (key == "dtype") {
      type = read_dtype(json);
    } else if (key == "shape") {
      shape = read_shape(json);
    } else if (key == "data_offsets") {
      offsets = read_offsets(json);
    } else {
      json.fail(concat("unknown key \"", key.substr(0, 80), "\" in the entry of ", name));
    }
  }
  if (!type || !shape || !offsets) json.fail(name + ": dtype, shape or data_offsets is missing");
  const std::string what = file + ": " + name;
  const uint64_t count = checked_count(*shape, what);
  const uint64_t bytes = stored_bytes(*type, count, 1, what);
  const auto [begin, end] = *offsets;
  CHECK_AS(Fault::bad_file, begin <= end && end - begin == bytes, what, ": ", name_of(*type), " ",
           shape_text(*shape), " takes ", bytes, " bytes, data_offsets are ", begin, " to ", end);
  return {std::move(name), *type, std::move(*shape), count, bytes, begin};
}

std::map<std::string, std::string> read_metadata(JsonReader& json) {
  std::map<std::string, std::string> metadata;
  std::string key;
  json.begin_object();
  while (json.next_key(key)) {
    if (metadata.contains(key)) json.fail(concat("duplicate key \"", key, "\" in __metadata__"));
    metadata.emplace(key, json.read_string());
  }
  return metadata;
}

// In the order of their bytes the entries must follow one another from 0 to `size`.
void check_coverage(const std::string& file, std::vector<TensorEntry>& entries, uint64_t size) {
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.offset != b.offset ? a.offset < b.offset : a.bytes < b.bytes;
  });
  uint64_t at = 0;
  for (const TensorEntry& entry : entries) {
    CHECK_AS(Fault::bad_file, entry.offset == at, file, ": ", entry.name, " starts at ",
             entry.offset, " of the data, ", at, " was expected (",
             entry.offset < at ? "an overlap" : "a hole", ")");
    at = checked_add(at, entry.bytes, file + ": " + entry.name);
  }
  CHECK_AS(Fault::bad_file, at == size, file, ": its tensors take ", at, " bytes, its data has ",
           size);
}
}  // namespace

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : SafetensorsFile(open_file(path)) {}

SafetensorsFile::SafetensorsFile(std::unique_ptr<ByteSource> bytes)
    : TensorSource(bytes->name()), bytes_(std::move(bytes)) {
  const uint64_t size = bytes_->size();
  CHECK_AS(Fault::bad_file, size >= 8, name(), ": ", size, " bytes are no safetensors file");
  uint64_t length = 0;
  bytes_->read_at(0, std::as_writable_bytes(std::span(&length, 1)));
  CHECK_AS(Fault::bad_file, length >= 2 && length <= std::min(kMaxHeader, size - 8), name(),
           ": a header of ", length, " bytes in a file of ", size, " (at most ", kMaxHeader, ")");
  std::string header(length, '\0');
  bytes_->read_at(8, std::as_writable_bytes(std::span(header)));
  CHECK_AS(Fault::bad_file, header.front() == '{', name(), ": the header does not start with '{'");

  JsonReader json(header, name() + " (header)");
  std::vector<TensorEntry> found;
  std::string key;
  bool has_metadata = false;
  json.begin_object();
  while (json.next_key(key)) {
    if (key == "__metadata__") {
      if (has_metadata) json.fail("duplicate key \"__metadata__\"");
      metadata_ = read_metadata(json);
      has_metadata = true;
    } else {
      found.push_back(read_entry(json, name(), key));
    }
  }
  json.finish();
  check_coverage(name(), found, size - 8 - length);
  for (TensorEntry& entry : found) {
    entry.offset += 8 + length;
    add(std::move(entry));
  }
}

void SafetensorsFile::read_bytes(const TensorEntry& entry, uint64_t begin,
                                 std::span<std::byte> dst) const {
  CHECK(begin <= entry.bytes && dst.size() <= entry.bytes - begin, name(), ": ", entry.name,
        ": bytes ", begin, " + ", dst.size(), " are outside its ", entry.bytes);
  bytes_->read_at(entry.offset + begin, dst);
}

}  // namespace mullion
