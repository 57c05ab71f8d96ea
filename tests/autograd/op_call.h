// A call of a row of the op table: its inputs as values and as tensors, made from fixed streams.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>

#include "autograd/engine.h"
#include "tensor/random.h"
#include "tests/autograd/op_table.h"

namespace mullion::test {

inline Values values_of(const OpInput& input, size_t index) {
  if (!input.integers.empty()) return {input.integers.begin(), input.integers.end()};
  Philox random{11, index, 0};
  Values v(static_cast<size_t>(input.shape.numel()));
  for (double& x : v)
    x = input.low + (input.high - input.low) * static_cast<double>(random.uniform());
  return v;
}

inline Tensor tensor_of(const OpInput& input, const Values& values, DType dtype,
                        Device device = {}) {
  if (!input.integers.empty())
    return raw::to_device(Tensor::from(input.integers, input.shape), device);
  return raw::to_device(raw::cast(Tensor::from(values, input.shape), dtype), device);
}

struct Call {
  std::vector<Values> values;
  std::vector<Tensor> tensors;
};

inline Call inputs_of(const OpRow& row, DType dtype, Device device = {}) {
  Call call;
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    call.values.push_back(values_of(row.inputs[i], i));
    call.tensors.push_back(tensor_of(row.inputs[i], call.values[i], dtype, device));
    if (row.inputs[i].differentiable && row.inputs[i].integers.empty())
      set_requires_grad(call.tensors[i], true);
  }
  return call;
}

inline Tensor random_like(const Tensor& y, uint64_t stream) {
  Philox random{23, stream, 0};
  Values v(static_cast<size_t>(y.numel()));
  for (double& x : v) x = static_cast<double>(random.uniform()) - 0.5;
  return raw::to_device(raw::cast(Tensor::from(v, y.shape()), y.dtype()), y.device());
}

inline double largest(const Values& v) {
  double most = 1e-3;
  for (const double x : v) most = std::max(most, std::abs(x));
  return most;
}

inline std::string row_name(const testing::TestParamInfo<OpRow>& row) {
  std::string name = row.param.op + (row.param.variant.empty() ? "" : "_" + row.param.variant);
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
}
}  // namespace mullion::test
