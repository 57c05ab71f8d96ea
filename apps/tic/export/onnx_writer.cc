// Tensors are kept as bytes until the file is made, all in one message.
#include "apps/tic/export/onnx_writer.h"

#include <bit>

#include "data/protobuf.h"
#include "tensor/check.h"

namespace mullion {
namespace {

enum DataType : uint8_t { kFloat = 1, kInt64 = 7 };
enum AttributeType : uint8_t { kFloatAttribute = 1, kIntAttribute = 2, kIntsAttribute = 7 };

// TensorProto: dims 1, data_type 2, name 8, raw_data 9.
template <typename T>
std::string tensor_bytes(const std::string& name, const std::vector<int64_t>& shape, DataType type,
                         std::span<const T> values) {
  std::string out;
  for (const int64_t dim : shape) out += integer_field(1, dim);
  out += integer_field(2, type);
  out += bytes_field(8, name);
  out += bytes_field(9, {reinterpret_cast<const char*>(values.data()), values.size_bytes()});
  return out;
}

// ValueInfoProto: name 1, type 2 > tensor_type 1 > elem_type 1, shape 2 > dim 1 > value 1, name 2.
std::string value_info(const std::string& name, const std::vector<OnnxGraph::Dim>& shape) {
  std::string dims;
  for (const OnnxGraph::Dim& d : shape)
    dims += bytes_field(1, d.name.empty() ? integer_field(1, d.size) : bytes_field(2, d.name));
  const std::string tensor = integer_field(1, kFloat) + bytes_field(2, dims);
  return bytes_field(1, name) + bytes_field(2, bytes_field(1, tensor));
}

// AttributeProto: name 1, f 2, i 3, ints 8, type 20.
std::string attribute_bytes(const OnnxAttribute& a) {
  std::string out;
  out += bytes_field(1, a.name);
  if (a.is_float) {
    out += float_field(2, a.number);
  } else {
    for (const int64_t i : a.ints) out += integer_field(a.list ? 8 : 3, i);
  }
  out += integer_field(20, a.is_float ? kFloatAttribute : a.list ? kIntsAttribute : kIntAttribute);
  return out;
}

}  // namespace

void OnnxGraph::input(const std::string& name, const std::vector<Dim>& shape) {
  inputs_ += bytes_field(11, value_info(name, shape));
}

void OnnxGraph::output(const std::string& name, const std::vector<Dim>& shape) {
  outputs_ += bytes_field(12, value_info(name, shape));
}

std::string OnnxGraph::tensor(const std::string& name, const std::vector<int64_t>& shape,
                              std::span<const float> values) {
  if (names_.insert(name).second)
    constants_ += bytes_field(5, tensor_bytes(name, shape, kFloat, values));
  return name;
}

std::string OnnxGraph::ints(const std::vector<int64_t>& values) {
  std::string name = "ints";
  for (const int64_t v : values) name += concat("_", v);
  if (names_.insert(name).second)
    constants_ += bytes_field(
        5, tensor_bytes<int64_t>(name, {static_cast<int64_t>(values.size())}, kInt64, values));
  return name;
}

std::string OnnxGraph::number(float value) {
  return tensor(concat("number_", std::bit_cast<uint32_t>(value)), {}, std::span(&value, 1));
}

std::string OnnxGraph::node(const std::string& op, const std::vector<std::string>& inputs,
                            const std::vector<OnnxAttribute>& attributes, const std::string& as) {
  const std::string output = as.empty() ? concat(op, "_", count_) : as;
  std::string out;  // NodeProto: input 1, output 2, name 3, op_type 4, attribute 5
  for (const std::string& input : inputs) out += bytes_field(1, input);
  out += bytes_field(2, output);
  out += bytes_field(3, concat("node_", count_++));
  out += bytes_field(4, op);
  for (const OnnxAttribute& a : attributes) out += bytes_field(5, attribute_bytes(a));
  nodes_ += bytes_field(1, out);
  return output;
}

std::string OnnxGraph::model(int64_t opset, const std::string& name,
                             const std::vector<Note>& notes) const {
  // GraphProto: node 1, name 2, initializer 5, input 11, output 12.
  const std::string graph = nodes_ + bytes_field(2, name) + constants_ + inputs_ + outputs_;
  // ModelProto: ir_version 1, producer_name 2, graph 7, opset_import 8, metadata_props 14.
  std::string out = integer_field(1, 8) + bytes_field(2, "mullion") + bytes_field(7, graph) +
                    bytes_field(8, bytes_field(1, "") + integer_field(2, opset));
  for (const Note& note : notes)
    out += bytes_field(14, bytes_field(1, note.key) + bytes_field(2, note.value));
  // Protobuf's own limit, which readers have as well.
  CHECK_AS(Fault::usage, out.size() < (size_t{1} << 31), "onnx: ", out.size(),
           " bytes, and a file of 2 GiB or more cannot be read");
  return out;
}

}  // namespace mullion
