// The goldens of tests/golden: tensors and options by case (tests/golden/README.md).
#pragma once
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tensor/io/json.h"
#include "tensor/io/safetensors.h"
#include "tensor/tensor.h"
#include "tests/source_dir.h"

namespace mullion::test {

class Golden {
 public:
  explicit Golden(const std::string& family)
      : file_(std::string(test::source_dir) + "/tests/golden/" + family + ".safetensors"),
        options_(
            read_json_file(std::string(test::source_dir) + "/tests/golden/" + family + ".json")) {}

  const nlohmann::json& cases() const { return options_.at("cases"); }
  nlohmann::json options(const std::string& name) const {
    for (const auto& c : cases())
      if (c.at("name") == name) return c;
    fail(Fault::other, "no golden case ", name);
  }
  bool has(const std::string& name) const { return file_.find(name) != nullptr; }
  std::vector<std::string> names() const { return file_.names(); }

  // A tensor in f32 or f64; integers come as i64.
  Tensor tensor(const std::string& name, DType dtype = DType::f32) const {
    const TensorEntry& entry = file_.at(name);
    const Shape shape{std::span<const int64_t>(entry.shape)};
    if (entry.type == StoredType::i32) {
      std::vector<int32_t> values(entry.count);
      file_.read_raw(name, std::as_writable_bytes(std::span(values)));
      return Tensor::from(std::vector<int64_t>(values.begin(), values.end()), shape);
    }
    std::vector<float> values(entry.count);
    file_.read_f32(name, values.data());
    return raw::cast(Tensor::from(values, shape), dtype);
  }

 private:
  SafetensorsFile file_;
  nlohmann::json options_;
};

// The largest difference, relative to the largest magnitude expected (at least `floor`).
inline double relative_error(const Tensor& actual, const Tensor& expected, double floor = 1e-3) {
  EXPECT_EQ(actual.shape(), expected.shape());
  const auto a = actual.to_vector<double>(), e = expected.to_vector<double>();
  double difference = 0, magnitude = floor;
  for (size_t i = 0; i < e.size(); ++i) {
    difference = std::max(difference, std::isnan(a[i]) ? INFINITY : std::abs(a[i] - e[i]));
    magnitude = std::max(magnitude, std::abs(e[i]));
  }
  return difference / magnitude;
}

}  // namespace mullion::test
