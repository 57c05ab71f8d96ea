// Builders of safetensors and GGUF files byte by byte, so that tests can write what no honest
// writer would.
#pragma once
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tensor/io/gguf.h"
#include "tensor/io/safetensors.h"

namespace mullion::test {

template <typename T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

// u64 length | header | data
inline std::string safetensors_bytes(const std::string& header, const std::string& data = "") {
  std::string out;
  append<uint64_t>(out, header.size());
  return out + header + data;
}

// One header entry: "name":{"dtype":...}
inline std::string entry_text(const std::string& name, const std::string& dtype,
                              const std::string& shape, const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

struct GgufText {
  uint32_t version = 3;
  std::string pairs, tensors, data;
  uint64_t pair_count = 0, tensor_count = 0;
  uint64_t alignment = 32;

  static std::string string(const std::string& text) {
    std::string out;
    append<uint64_t>(out, text.size());
    return out + text;
  }
  GgufText& pair(const std::string& key, GgufType type, const std::string& value) {
    pairs += string(key);
    append(pairs, static_cast<uint32_t>(type));
    pairs += value;
    ++pair_count;
    return *this;
  }
  GgufText& text(const std::string& key, const std::string& value) {
    return pair(key, GgufType::string, string(value));
  }
  GgufText& u32(const std::string& key, uint32_t value) {
    std::string bytes;
    append(bytes, value);
    return pair(key, GgufType::u32, bytes);
  }
  GgufText& f32(const std::string& key, float value) {
    std::string bytes;
    append(bytes, value);
    return pair(key, GgufType::f32, bytes);
  }
  GgufText& array(const std::string& key, GgufType type, uint64_t count, const std::string& bytes) {
    std::string value;
    append(value, static_cast<uint32_t>(type));
    append(value, count);
    return pair(key, GgufType::array, value + bytes);
  }
  // A description alone; `dims` innermost first.
  GgufText& describe(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                     uint64_t offset) {
    tensors += string(name);
    append(tensors, static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) append(tensors, d);
    append(tensors, type);
    append(tensors, offset);
    ++tensor_count;
    return *this;
  }
  // A described tensor with its bytes at the next aligned place.
  GgufText& tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                   const std::string& bytes) {
    data.resize((data.size() + alignment - 1) / alignment * alignment);
    describe(name, dims, type, data.size());
    data += bytes;
    return *this;
  }
  std::string bytes() const {
    std::string out = "GGUF";
    append(out, version);
    append(out, tensor_count);
    append(out, pair_count);
    out += pairs + tensors;
    if (data.empty()) return out;
    out.resize((out.size() + alignment - 1) / alignment * alignment);
    return out + data;
  }
};

// Parsers over a string, which the returned object must not outlive.
inline std::unique_ptr<ByteSource> view(const std::string& bytes, std::string name = "t") {
  return view_bytes(std::as_bytes(std::span(bytes)), std::move(name));
}

inline std::vector<float> floats_of(const TensorSource& source, const std::string& name) {
  std::vector<float> values(source.at(name).count);
  source.read_f32(name, values.data());
  return values;
}

}  // namespace mullion::test
