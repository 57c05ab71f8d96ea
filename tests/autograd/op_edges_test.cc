// The edges of every row of the op table: each call gives a right result or an error that names the
// op; it never reads beyond its inputs and never makes a number of what is none.
//   empty      each axis of the inputs set to 0, everywhere where its size occurs
//   ranks      an axis more and an axis fewer in each input
//   types      each floating-point input in another type, each integer input as a number
//   integers   ids and labels at and beyond both ends
//   nan        each floating-point input as NaN, and each element alone: the result has one
//   transposed the elements of each input stored along its other axes
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "autograd/engine.h"
#include "tensor/check.h"
#include "tests/autograd/op_call.h"

namespace mullion::test {
namespace {

class OpEdges : public testing::TestWithParam<OpRow> {
 protected:
  void SetUp() override { set_poison_fresh_memory(true); }
  void TearDown() override { set_poison_fresh_memory(false); }

  // The result, after its backward; undefined where the op refused by an error that names it.
  static Tensor result_of(const std::vector<Tensor>& inputs, const std::string& what) {
    const OpRow& row = GetParam();
    SCOPED_TRACE(what);
    Tensor y;
    try {
      y = row.call(inputs);
    } catch (const Error& error) {
      const std::string text = error.what();
      // Rows of several results join them by concat.
      EXPECT_TRUE(text.starts_with(row.op) || text.starts_with("concat")) << text;
      return {};
    }
    if (requires_grad(y)) backward(y, random_like(y, 100));
    for (const Tensor& input : inputs)
      EXPECT_TRUE(!requires_grad(input) || !grad(input).defined() ||
                  grad(input).shape() == input.shape())
          << "a gradient of another shape";
    return y;
  }
  static bool finite(const Tensor& y) {
    for (const double x : y.to_vector<double>())
      if (!std::isfinite(x)) return false;
    return true;
  }
  static bool is_float(const OpInput& input) { return input.integers.empty(); }
  static Tensor leaf(const Tensor& x, const Tensor& like) {
    set_requires_grad(x, requires_grad(like));
    return x;
  }
};

class OpTypes : public OpEdges {};
class OpNan : public OpEdges {};
class OpOneNan : public OpEdges {};

TEST_P(OpEdges, EmptyInputs) {
  const OpRow& row = GetParam();
  std::set<int64_t> sizes;
  for (const OpInput& input : row.inputs)
    for (int axis = 0; axis < input.shape.rank(); ++axis) sizes.insert(input.shape[axis]);
  for (const int64_t size : sizes) {
    std::vector<Tensor> inputs;
    for (size_t i = 0; i < row.inputs.size(); ++i) {
      Shape shape = row.inputs[i].shape;
      for (int axis = 0; axis < shape.rank(); ++axis)
        if (shape[axis] == size) shape[axis] = 0;
      OpInput input = row.inputs[i];
      Tensor x;
      if (shape.numel() == 0) {
        x = is_float(input) ? Tensor::zeros(shape, DType::f32) : Tensor::zeros(shape, DType::i64);
      } else {
        x = tensor_of(input, values_of(input, i), DType::f32);
      }
      if (is_float(input) && input.differentiable) set_requires_grad(x, true);
      inputs.push_back(x);
    }
    const Tensor y = result_of(inputs, concat("size ", size, " set to 0"));
    const bool means_nothing = row.op == "mean" && y.defined() && !finite(y);  // 0 / 0
    EXPECT_TRUE(!y.defined() || means_nothing || finite(y)) << "size " << size << " set to 0";
  }
}

TEST_P(OpEdges, OtherRanks) {
  const OpRow& row = GetParam();
  for (size_t i = 0; i < row.inputs.size(); ++i)
    for (const bool more : {true, false}) {
      Call call = inputs_of(row, DType::f32);
      const Tensor x = detached(call.tensors[i]);
      const Shape& old = x.shape();
      if (!more && old.rank() == 0) continue;
      std::vector<int64_t> sizes;
      for (int axis = 0; axis < old.rank(); ++axis) sizes.push_back(old[axis]);
      if (more) {
        sizes.insert(sizes.begin(), 1);
      } else if (sizes.size() == 1) {
        sizes.clear();
      } else {
        sizes[1] *= sizes[0];
        sizes.erase(sizes.begin());
      }
      const Shape shape(sizes);
      if (shape.numel() != x.numel()) continue;
      call.tensors[i] = leaf(raw::reshape(x, shape), call.tensors[i]);
      const Tensor y = result_of(call.tensors, concat("input ", i, " of shape ", shape));
      EXPECT_TRUE(!y.defined() || finite(y)) << "input " << i << " of shape " << shape;
    }
}

TEST_P(OpTypes, AreNotMixed) {
  const OpRow& row = GetParam();
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    Call call = inputs_of(row, DType::f32);
    const Tensor x = detached(call.tensors[i]);
    if (!is_float(row.inputs[i])) {
      call.tensors[i] = raw::cast(x, DType::f32);
      EXPECT_FALSE(result_of(call.tensors, concat("integers ", i, " as f32")).defined());
      continue;
    }
    if (row.inputs.size() == 1) continue;
    call.tensors[i] = leaf(raw::cast(x, DType::f64), call.tensors[i]);
    const Tensor y = result_of(call.tensors, concat("input ", i, " as f64"));
    const bool alone = std::count_if(row.inputs.begin(), row.inputs.end(), is_float) == 1;
    EXPECT_EQ(y.defined(), alone) << "input " << i << " as f64";
  }
}

TEST_P(OpEdges, IntegersOutOfRange) {
  const OpRow& row = GetParam();
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    if (is_float(row.inputs[i]) || row.inputs[i].integers.size() == 1) continue;  // a stream
    for (const int64_t wrong : {int64_t{-1}, int64_t{-99}, int64_t{-101}, int64_t{1} << 32,
                                INT64_MAX, INT64_MIN, int64_t{13}}) {
      Call call = inputs_of(row, DType::f32);
      std::vector<int64_t> integers = row.inputs[i].integers;
      integers.back() = wrong;
      call.tensors[i] = Tensor::from(integers, row.inputs[i].shape);
      EXPECT_FALSE(result_of(call.tensors, concat("input ", i, " with ", wrong)).defined())
          << "input " << i << " with " << wrong << " is taken";
    }
  }
}

TEST_P(OpNan, StaysWhereAllAre) {
  const OpRow& row = GetParam();
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    if (!is_float(row.inputs[i])) continue;
    for (const DType dtype : {DType::f32, DType::f64}) {
      Call call = inputs_of(row, dtype);
      call.tensors[i] = leaf(Tensor::full(row.inputs[i].shape, NAN, dtype), call.tensors[i]);
      const Tensor y = result_of(call.tensors, concat("input ", i, " of NaN"));
      EXPECT_TRUE(!y.defined() || !finite(y)) << "input " << i << " of NaN gives numbers";
    }
  }
}

// One NaN, where each element has an effect.
TEST_P(OpOneNan, Stays) {
  const OpRow& row = GetParam();
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    if (!is_float(row.inputs[i])) continue;
    Call call = inputs_of(row, DType::f32);
    const Tensor leaf_i = call.tensors[i];
    const Values values = leaf_i.to_vector<double>();
    for (size_t e = 0; e < values.size(); ++e) {
      Values with_nan = values;
      with_nan[e] = NAN;
      call.tensors[i] = leaf(raw::cast(Tensor::from(with_nan, leaf_i.shape()), DType::f32), leaf_i);
      const Tensor y = result_of(call.tensors, concat("input ", i, ", element ", e, " of NaN"));
      ASSERT_TRUE(y.defined() && !finite(y)) << "input " << i << ", element " << e << " of NaN";
    }
  }
}

TEST_P(OpEdges, TransposedInputs) {
  const OpRow& row = GetParam();
  const Tensor expected = row.call(inputs_of(row, DType::f64).tensors);
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    if (row.inputs[i].shape.rank() < 2) continue;
    Call call = inputs_of(row, DType::f64);
    const Tensor x = detached(call.tensors[i]);
    std::vector<int> back;
    for (int axis = x.rank() - 1; axis >= 0; --axis) back.push_back(axis);
    const Tensor other = raw::permute(raw::contiguous(raw::permute(x, back)), back);
    call.tensors[i] = leaf(other, call.tensors[i]);
    const Tensor y = result_of(call.tensors, concat("input ", i, " transposed"));
    ASSERT_TRUE(y.defined()) << "input " << i << " transposed";
    EXPECT_EQ(y.to_vector<double>(), expected.to_vector<double>()) << "input " << i;
  }
}

std::vector<OpRow> rows_where(const std::function<bool(const OpRow&)>& wanted) {
  std::vector<OpRow> rows = op_table();
  std::erase_if(rows, [&](const OpRow& row) { return !wanted(row); });
  return rows;
}
bool takes_one_type(const OpRow& row) { return row.op != "cast"; }
// What a row does not use has no effect.
bool keeps_nan(const OpRow& row) { return row.variant.find("unused") == std::string::npos; }
// Not those that look at a part of their input alone.
bool uses_every_element(const OpRow& row) {
  static const std::set<std::string> kSelective = {
      "slice",     "embedding",     "dropout",      "drop_path",
      "attention", "cross_entropy", "lora_linears", "linear_cross_entropy"};
  return keeps_nan(row) && kSelective.count(row.op) == 0;
}

INSTANTIATE_TEST_SUITE_P(Rows, OpEdges, testing::ValuesIn(op_table()), row_name);
INSTANTIATE_TEST_SUITE_P(Rows, OpTypes, testing::ValuesIn(rows_where(takes_one_type)), row_name);
INSTANTIATE_TEST_SUITE_P(Rows, OpNan, testing::ValuesIn(rows_where(keeps_nan)), row_name);
INSTANTIATE_TEST_SUITE_P(Rows, OpOneNan, testing::ValuesIn(rows_where(uses_every_element)),
                         row_name);

}  // namespace
}  // namespace mullion::test
