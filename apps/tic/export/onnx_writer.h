// ONNX files (https://onnx.ai/onnx/repo-docs/IR.html): a graph that grows node by node, and its
// protobuf bytes. Only what exports here need: f32 and int64 tensors, attributes that are numbers
// or lists of them.
#pragma once
#include <concepts>
#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <vector>

namespace mullion {

struct OnnxAttribute {
  OnnxAttribute(std::string the_name, std::integral auto value)
      : name(std::move(the_name)), ints{static_cast<int64_t>(value)} {}
  OnnxAttribute(std::string the_name, std::vector<int64_t> values)
      : name(std::move(the_name)), ints(std::move(values)), list(true) {}
  OnnxAttribute(std::string the_name, float value)
      : name(std::move(the_name)), number(value), is_float(true) {}
  std::string name;
  std::vector<int64_t> ints = {};
  float number = 0;
  bool list = false, is_float = false;
};

class OnnxGraph {
 public:
  // A dimension of an input or output by number, or by name where it may be any.
  struct Dim {
    Dim(int64_t n) : size(n) {}
    Dim(const char* the_name) : name(the_name) {}
    int64_t size = 0;
    std::string name = {};
  };

  void input(const std::string& name, const std::vector<Dim>& shape);
  void output(const std::string& name, const std::vector<Dim>& shape);
  // Constants; a name that is there already is not written again.
  std::string tensor(const std::string& name, const std::vector<int64_t>& shape,
                     std::span<const float> values);
  std::string ints(const std::vector<int64_t>& values);  // (n)
  std::string number(float value);                       // a scalar
  // Adds a node and returns the name of its output, `as` or one made up.
  std::string node(const std::string& op, const std::vector<std::string>& inputs,
                   const std::vector<OnnxAttribute>& attributes = {}, const std::string& as = "");

  // The file's bytes: operators of version `opset`, and what a reader should know.
  struct Note {
    std::string key, value;
  };
  std::string model(int64_t opset, const std::string& name, const std::vector<Note>& notes) const;

 private:
  std::string nodes_, constants_, inputs_, outputs_;
  std::set<std::string> names_;
  int64_t count_ = 0;
};

}  // namespace mullion
