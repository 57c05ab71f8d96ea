// Pairs as they will stand in the file; tensors are written at offsets fixed by their sizes.
#include "tensor/io/gguf_writer.h"

#include <algorithm>

#include "tensor/check.h"
#include "tensor/io/checked.h"

namespace mullion {
namespace {

constexpr uint64_t kAlignment = 32;
constexpr size_t kMaxName = 63;

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void append_text(std::string& out, std::string_view text) {
  append<uint64_t>(out, text.size());
  out += text;
}

}  // namespace

void GgufPairs::begin(const std::string& key, GgufType type) {
  CHECK(std::find(keys_.begin(), keys_.end(), key) == keys_.end(), "GGUF: the key ", key,
        " is given twice");
  keys_.push_back(key);
  append_text(bytes_, key);
  append(bytes_, static_cast<uint32_t>(type));
}

void GgufPairs::begin_array(const std::string& key, GgufType type, uint64_t count) {
  begin(key, GgufType::array);
  append(bytes_, static_cast<uint32_t>(type));
  append(bytes_, count);
}

GgufPairs& GgufPairs::text(const std::string& key, std::string_view value) {
  begin(key, GgufType::string);
  append_text(bytes_, value);
  return *this;
}

GgufPairs& GgufPairs::u32(const std::string& key, uint64_t value) {
  CHECK_AS(Fault::bad_file, value <= UINT32_MAX, "GGUF: ", key, ": ", value,
           " does not fit 32 bits");
  begin(key, GgufType::u32);
  append(bytes_, static_cast<uint32_t>(value));
  return *this;
}

GgufPairs& GgufPairs::f32(const std::string& key, double value) {
  begin(key, GgufType::f32);
  append(bytes_, static_cast<float>(value));
  return *this;
}

GgufPairs& GgufPairs::boolean(const std::string& key, bool value) {
  begin(key, GgufType::boolean);
  append(bytes_, static_cast<uint8_t>(value));
  return *this;
}

GgufPairs& GgufPairs::texts(const std::string& key, const std::vector<std::string>& values) {
  begin_array(key, GgufType::string, values.size());
  for (const std::string& value : values) append_text(bytes_, value);
  return *this;
}

GgufPairs& GgufPairs::f32s(const std::string& key, const std::vector<float>& values) {
  begin_array(key, GgufType::f32, values.size());
  for (const float value : values) append(bytes_, value);
  return *this;
}

GgufPairs& GgufPairs::i32s(const std::string& key, const std::vector<int32_t>& values) {
  begin_array(key, GgufType::i32, values.size());
  for (const int32_t value : values) append(bytes_, value);
  return *this;
}

GgufWriter::GgufWriter(const std::filesystem::path& path, const GgufPairs& pairs,
                       const std::vector<GgufSpec>& specs)
    : file_(path) {
  std::string header = "GGUF";
  append<uint32_t>(header, 3);
  append<uint64_t>(header, specs.size());
  append<uint64_t>(header, pairs.count());
  header += pairs.bytes();
  uint64_t at = 0;
  for (const GgufSpec& spec : specs) {
    const std::string what = file_.path() + ": " + spec.name;
    CHECK_AS(Fault::bad_file, spec.name.size() <= kMaxName, what, ": a name of ", spec.name.size(),
             " bytes, GGUF holds ", kMaxName);
    append_text(header, spec.name);
    append(header, static_cast<uint32_t>(spec.shape.size()));
    for (auto size = spec.shape.rbegin(); size != spec.shape.rend(); ++size)  // innermost first
      append(header, static_cast<uint64_t>(*size));
    append(header, ggml_type_of(spec.type));
    append(header, at);
    const uint64_t row = spec.shape.empty() ? 1 : static_cast<uint64_t>(spec.shape.back());
    const uint64_t bytes = stored_bytes(spec.type, checked_count(spec.shape, what), row, what);
    CHECK(file_.announce(spec.name, at, bytes), what, ": two tensors of this name");
    at = checked_round_up(checked_add(at, bytes, what), kAlignment, what);
  }
  header.resize(checked_round_up(header.size(), kAlignment, file_.path()));
  file_.write_header(header);
}

void GgufWriter::write(const std::string& name, std::span<const std::byte> bytes) {
  file_.write(name, bytes, kAlignment);
}

void GgufWriter::commit() { file_.commit(); }

}  // namespace mullion
