// Changes in place between a forward and its backward: no op may give the gradient of values that
// it has not computed with, and none has to do anything for that (tensor/tensor.h, Elements).
#include <gtest/gtest.h>

#include "autograd/activation_checkpoint.h"
#include "autograd/engine.h"
#include "optim/optimizer.h"
#include "tensor/attention_pattern.h"
#include "tests/autograd/op_call.h"

namespace mullion::test {
namespace {

class InPlace : public testing::TestWithParam<OpRow> {};

// The gradients of a row's inputs, with `change` between forward and backward.
std::vector<Values> gradients(const OpRow& row, const std::function<void(const Call&)>& change) {
  const Call call = inputs_of(row, DType::f64);
  const Tensor y = row.call(call.tensors);
  change(call);
  backward(y, random_like(y, 100));
  std::vector<Values> result;
  for (const Tensor& x : call.tensors)
    if (requires_grad(x)) result.push_back(grad(x).to_vector<double>());
  return result;
}

// For each input: the gradients are those of the values that the forward saw, or there are none.
TEST_P(InPlace, AChangedInputIsNotNeededOrAnError) {
  const OpRow& row = GetParam();
  const std::vector<Values> expected = gradients(row, [](const Call&) {});
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    const auto change = [i](const Call& call) { raw::fill(call.tensors[i], 0); };
    try {
      EXPECT_EQ(gradients(row, change), expected) << "with input " << i << " changed";
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("backward of ")) << error.what();
      EXPECT_NE(std::string(error.what()).find("was changed in place"), std::string::npos)
          << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, InPlace, testing::ValuesIn(op_table()), row_name);

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

Tensor leaf(std::vector<float> values) {
  const auto n = static_cast<int64_t>(values.size());
  Tensor x = Tensor::from(values, {n});
  set_requires_grad(x, true);
  return x;
}

TEST(InPlaceChange, IsToldWithTheOpAndWhoMadeIt) {
  const Tensor x = leaf({1, 2}), turns = Tensor::full({1, 1}, 1.0);
  const Tensor y = softmax(reshape(x, {1, 1, 1, 2}));
  const Tensor z = rope_in_place(y, turns, turns);
  EXPECT_EQ(error_of([&] { backward(sum(z)); }),
            "backward of softmax: a tensor of shape [1, 1, 1, 2], which it needs as it was in the "
            "forward, was changed in place afterwards by rope_in_place");
}

TEST(InPlaceChange, ThroughAViewOrAPointerIsNoticed) {
  const Tensor x = leaf({1, 2, 3, 4});
  const std::vector<std::function<void()>> writes = {
      [&] { raw::fill(x, 0); },
      [&] { raw::copy_into(Tensor::zeros({2}), raw::slice(x, 0, 1, 3)); },
      [&] {
        raw::fill(raw::reshape(x, {2, 2}), 0);
      },
      [&] { *static_cast<float*>(x.data<float>()) = 7; },
  };
  for (const auto& write : writes) {
    const Tensor y = sum(square(x));
    write();
    EXPECT_NE(error_of([&] { backward(y); }).find("backward of square: a tensor of shape [4]"),
              std::string::npos);
  }
}

TEST(InPlaceChange, OfAParameterByTheOptimizer) {
  const Tensor w = leaf({1, 2});
  const auto optimizer = make_sgd({{{{"w", w}}, 1, 0}}, {});
  const Tensor first = sum(square(w)), second = sum(square(w));
  backward(first);
  optimizer->step(0.1);
  EXPECT_NE(error_of([&] { backward(second); }).find("was changed in place afterwards by sgd"),
            std::string::npos);
}

// The block runs again in the backward, so what it reads must be as it was.
TEST(InPlaceChange, UnderRecomputation) {
  const Tensor w = leaf({1, 2});
  const auto block = [&](const Tensor& x) { return mul(x, w); };
  const Tensor x = leaf({3, 4});
  backward(sum(checkpoint(block, x)));
  EXPECT_EQ(grad(w).to_vector<float>(), (std::vector<float>{3, 4}));
  for (const Tensor& changed : {w, x}) {
    const Tensor y = sum(checkpoint(block, x));
    raw::fill(changed, 5);
    EXPECT_NE(error_of([&] { backward(y); }).find("backward of checkpoint: mul: a tensor of shape"),
              std::string::npos);
  }
}

// Reading is no change, nor is what happens before the op, after its backward, or to a copy.
TEST(InPlaceChange, OnlyOfWhatIsNeeded) {
  const Tensor x = leaf({1, 2});
  raw::fill(x, 3);
  const Tensor y = add(square(x), x), total = sum(y);
  EXPECT_EQ(x.to_vector<float>()[0], 3);
  raw::fill(y, 0);  // neither add nor sum needs it
  backward(total);
  EXPECT_EQ(grad(x).to_vector<float>(), (std::vector<float>{7, 7}));
  raw::fill(x, 0);
  backward(sum(square(x)));
  EXPECT_EQ(grad(x).to_vector<float>(), (std::vector<float>{7, 7}));
}

TEST(WithoutBackward, AnOpIsRefusedWhereAGradientIsNeeded) {
  const Tensor x = leaf({1, 2});
  const std::string expected =
      "argmax: has no backward, but an input needs a gradient; give it detached() inputs, or "
      "compute under NoGrad";
  const auto one = [](const Tensor& input) {
    return record("argmax", Tensor::zeros({}), {input}, nullptr);
  };
  const auto several = [](const Tensor& input) {
    return record_all("argmax", {Tensor::zeros({})}, {input}, nullptr)[0];
  };
  EXPECT_EQ(error_of([&] { one(x); }), expected);
  EXPECT_EQ(error_of([&] { several(x); }), expected);
  EXPECT_EQ(error_of([&] { refuse_gradients("argmax", {x}); }), expected);
  EXPECT_FALSE(requires_grad(one(detached(x))));
  const NoGrad no_grad;
  EXPECT_FALSE(requires_grad(one(x)));
  EXPECT_FALSE(requires_grad(several(x)));
}

TEST(Dims, AnErrorNamesOpAndTensor) {
  const Tensor x = Tensor::zeros({2, 3}), map = Tensor::zeros({1, 2, 2, 4});
  EXPECT_EQ(error_of([&] { attention(x, x, x, {}, 1); }),
            "attention: q of shape [2, 3], expected 4 axes");
  EXPECT_EQ(error_of([&] { max_pool2x2(x); }),
            "max_pool2x2: a map of shape [2, 3], expected 4 axes");
  EXPECT_EQ(error_of([&] { conv2d(map, x, 1, 1); }),
            "conv2d: weight of shape [2, 3], expected 4 axes");
  EXPECT_EQ(error_of([&] { rope(x, x, x); }), "rope: x of shape [2, 3], expected 4 axes");
  EXPECT_EQ(error_of([&] { cross_entropy(map, map, 1); }),
            "cross_entropy: logits of shape [1, 2, 2, 4], expected 2 axes");
}

}  // namespace
}  // namespace mullion::test
