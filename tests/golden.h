// Reads a family of tests/golden: FAMILY.json, the options of each case, and FAMILY.safetensors,
// tensors named CASE.TENSOR, written by tools/make_goldens.py with software that is not ours.
#pragma once
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tensor/check.h"
#include "tensor/io/safetensors.h"

namespace mullion::test {

class GoldenFamily {
 public:
  explicit GoldenFamily(const std::string& family)
      : file_(folder() / (family + ".safetensors")), options_(read(family)) {}

  // Objects with "name" and the case's options.
  const nlohmann::json& cases() const { return options_.at("cases"); }
  const nlohmann::json& at(const std::string& name) const {
    for (const auto& entry : cases()) {
      if (entry.at("name") == name) return entry;
    }
    fail(Fault::bad_file, "golden case ", name, " is absent");
  }
  bool has(const std::string& tensor) const { return file_.find(tensor) != nullptr; }
  std::vector<int64_t> shape(const std::string& tensor) const { return file_.at(tensor).shape; }
  std::vector<float> floats(const std::string& tensor) const {  // of an f32 tensor
    std::vector<float> values(file_.at(tensor).count);
    file_.read_f32(tensor, values.data());
    return values;
  }
  template <typename T>  // of a tensor stored as T: int32_t, double
  std::vector<T> values(const std::string& tensor) const {
    std::vector<T> out(file_.at(tensor).count);
    file_.read_raw(tensor, std::as_writable_bytes(std::span(out)));
    return out;
  }
  // Every stored name that begins with `prefix`.
  std::vector<std::string> names(const std::string& prefix) const {
    std::vector<std::string> out;
    for (const auto& entry : file_.entries()) {
      if (entry.name.rfind(prefix, 0) == 0) out.push_back(entry.name);
    }
    return out;
  }

  static std::filesystem::path folder() {
    return std::filesystem::path(MULLION_SOURCE_DIR) / "tests/golden";
  }

 private:
  static nlohmann::json read(const std::string& family) {
    std::ifstream stream(folder() / (family + ".json"));
    return nlohmann::json::parse(stream);
  }

  SafetensorsFile file_;
  nlohmann::json options_;
};

}  // namespace mullion::test
