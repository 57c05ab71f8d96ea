// The op table: one row for every public op (several where an op has branches), from which all
// checks are derived. A row gives inputs, the call, and the result by naive formulas in double.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "autograd/ops.h"

namespace mullion::test {

struct OpInput {
  Shape shape;
  bool differentiable = true;
  double low = -1.5, high = 1.5;       // values are spread over [low, high]
  std::vector<int64_t> integers = {};  // given: an i64 tensor instead
};

using Values = std::vector<double>;

struct OpRow {
  std::string op;       // the function of autograd/ops.h
  std::string variant;  // what is particular about the row
  std::vector<OpInput> inputs;
  std::function<Tensor(const std::vector<Tensor>&)> call;
  // The elements of the result in row-major order; integers come as doubles.
  std::function<Values(const std::vector<Values>&)> reference;
  double f32_tolerance = 1e-5;  // relative to the largest element; a wider one says why in its row
};

// tests/op_cases/*.cc
std::vector<OpRow> elementwise_rows();
std::vector<OpRow> shape_rows();
std::vector<OpRow> linear_rows();
std::vector<OpRow> lora_rows();
std::vector<OpRow> block_weight_rows();
std::vector<OpRow> norm_rows();
std::vector<OpRow> attention_rows();
std::vector<OpRow> map_rows();
std::vector<OpRow> loss_rows();
inline std::vector<OpRow> op_table() {
  std::vector<OpRow> all;
  for (const auto& rows :
       {elementwise_rows(), shape_rows(), linear_rows(), lora_rows(), block_weight_rows(),
        norm_rows(), attention_rows(), map_rows(), loss_rows()})
    all.insert(all.end(), rows.begin(), rows.end());
  return all;
}

}  // namespace mullion::test
