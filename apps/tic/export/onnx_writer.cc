#include "apps/tic/export/onnx_writer.h"

#include <bit>

#include "tensor/check.h"

namespace mullion {
namespace {

enum DataType : uint8_t { kFloat = 1, kInt64 = 7 };
enum AttributeType : uint8_t { kFloatAttribute = 1, kIntAttribute = 2, kIntsAttribute = 7 };

// Protobuf's wire format: a key of field number and kind, then a number in groups of 7 bits, four
// bytes, or a length and as many bytes.
void put_varint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}
void put_int(std::string& out, int field, int64_t value) {
  put_varint(out, static_cast<uint64_t>(field) << 3);
  put_varint(out, static_cast<uint64_t>(value));
}
void put_bytes(std::string& out, int field, std::string_view bytes) {
  put_varint(out, static_cast<uint64_t>(field) << 3 | 2);
  put_varint(out, bytes.size());
  out += bytes;
}
void put_float(std::string& out, int field, float value) {
  static_assert(std::endian::native == std::endian::little);
  put_varint(out, static_cast<uint64_t>(field) << 3 | 5);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// TensorProto: dims 1, data_type 2, name 8, raw_data 9.
template <typename T>
std::string tensor_bytes(const std::string& name, const std::vector<int64_t>& shape, DataType type,
                         std::span<const T> values) {
  std::string out;
  for (const int64_t dim : shape) put_int(out, 1, dim);
  put_int(out, 2, type);
  put_bytes(out, 8, name);
  put_bytes(out, 9, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  return out;
}

// ValueInfoProto: name 1, type 2 > tensor_type 1 > elem_type 1, shape 2 > dim 1 > value 1, name 2.
std::string value_info(const std::string& name, const std::vector<OnnxGraph::Dim>& shape) {
  std::string dims, tensor, type, out;
  for (const OnnxGraph::Dim& d : shape) {
    std::string dim;
    d.name.empty() ? put_int(dim, 1, d.size) : put_bytes(dim, 2, d.name);
    put_bytes(dims, 1, dim);
  }
  put_int(tensor, 1, kFloat);
  put_bytes(tensor, 2, dims);
  put_bytes(type, 1, tensor);
  put_bytes(out, 1, name);
  put_bytes(out, 2, type);
  return out;
}

// AttributeProto: name 1, f 2, i 3, ints 8, type 20.
std::string attribute_bytes(const OnnxAttribute& a) {
  std::string out;
  put_bytes(out, 1, a.name);
  if (a.is_float) {
    put_float(out, 2, a.number);
  } else {
    for (const int64_t i : a.ints) put_int(out, a.list ? 8 : 3, i);
  }
  put_int(out, 20, a.is_float ? kFloatAttribute : a.list ? kIntsAttribute : kIntAttribute);
  return out;
}

}  // namespace

void OnnxGraph::input(const std::string& name, const std::vector<Dim>& shape) {
  put_bytes(inputs_, 11, value_info(name, shape));
}

void OnnxGraph::output(const std::string& name, const std::vector<Dim>& shape) {
  put_bytes(outputs_, 12, value_info(name, shape));
}

std::string OnnxGraph::tensor(const std::string& name, const std::vector<int64_t>& shape,
                              std::span<const float> values) {
  if (names_.insert(name).second)
    put_bytes(constants_, 5, tensor_bytes(name, shape, kFloat, values));
  return name;
}

std::string OnnxGraph::ints(const std::vector<int64_t>& values) {
  std::string name = "ints";
  for (const int64_t v : values) name += concat("_", v);
  if (names_.insert(name).second)
    put_bytes(constants_, 5,
              tensor_bytes<int64_t>(name, {static_cast<int64_t>(values.size())}, kInt64, values));
  return name;
}

std::string OnnxGraph::number(float value) {
  return tensor(concat("number_", std::bit_cast<uint32_t>(value)), {}, std::span(&value, 1));
}

std::string OnnxGraph::node(const std::string& op, const std::vector<std::string>& inputs,
                            const std::vector<OnnxAttribute>& attributes, const std::string& as) {
  const std::string output = as.empty() ? concat(op, "_", count_) : as;
  std::string out;  // NodeProto: input 1, output 2, name 3, op_type 4, attribute 5
  for (const std::string& input : inputs) put_bytes(out, 1, input);
  put_bytes(out, 2, output);
  put_bytes(out, 3, concat("node_", count_++));
  put_bytes(out, 4, op);
  for (const OnnxAttribute& a : attributes) put_bytes(out, 5, attribute_bytes(a));
  put_bytes(nodes_, 1, out);
  return output;
}

std::string OnnxGraph::model(int64_t opset, const std::string& name,
                             const std::vector<Note>& notes) const {
  // GraphProto: node 1, name 2, initializer 5, input 11, output 12.
  std::string graph = nodes_, version, out;
  put_bytes(graph, 2, name);
  graph += constants_ + inputs_ + outputs_;
  // ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8, metadata_props 14.
  put_int(out, 1, 8);
  put_bytes(out, 2, "mullion");
  put_bytes(out, 7, graph);
  put_bytes(version, 1, "");
  put_int(version, 2, opset);
  put_bytes(out, 8, version);
  for (const Note& note : notes) {
    std::string entry;
    put_bytes(entry, 1, note.key);
    put_bytes(entry, 2, note.value);
    put_bytes(out, 14, entry);
  }
  // Protobuf's own limit, which readers have as well.
  CHECK_AS(Fault::usage, out.size() < (size_t{1} << 31), "onnx: ", out.size(),
           " bytes, and a file of 2 GiB or more cannot be read");
  return out;
}

}  // namespace mullion
