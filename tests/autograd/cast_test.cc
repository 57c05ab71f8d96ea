// The op that changes the type, and its gradient.
#include <gtest/gtest.h>

#include "autograd/engine.h"
#include "autograd/ops.h"

namespace mullion::test {
namespace {

TEST(Cast, RoundsAndGivesTheGradientInTheTypeOfItsInput) {
  const Tensor x = Tensor::from(std::vector<float>{1, 1.00390625f, -3.3f}, {3});
  set_requires_grad(x, true);
  const Tensor y = cast(x, DType::bf16);
  EXPECT_EQ(y.dtype(), DType::bf16);
  EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{1, 1, -3.296875f}));
  const Tensor g = raw::cast(Tensor::from(std::vector<float>{2, -0.5f, 7}, {3}), DType::bf16);
  backward(y, g);
  EXPECT_EQ(grad(x).dtype(), DType::f32);
  EXPECT_EQ(grad(x).to_vector<float>(), (std::vector<float>{2, -0.5f, 7}));
}

TEST(Cast, RefusesIntegers) {
  const Tensor ids = Tensor::from(std::vector<int64_t>{1, 2}, {2});
  EXPECT_THROW(cast(ids, DType::f32), Error);
  EXPECT_THROW(cast(Tensor::zeros({2}), DType::i64), Error);
}

TEST(Backward, AnErrorNamesTheOp) {
  const Tensor x = Tensor::zeros({2});
  set_requires_grad(x, true);
  const Tensor y = record("broken", raw::clone(x), {x}, [](const Tensor&) -> Gradients {
    fail(Fault::memory, "no kernel today");
  });
  try {
    backward(y, Tensor::zeros({2}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "backward of broken: no kernel today");
    EXPECT_EQ(error.fault(), Fault::memory);
  }
}

// The 1 of backward(loss) is known without being read, and no other 1 is taken for it.
TEST(Backward, TheGradientOfALossIsScaledOnce) {
  const std::vector<int64_t> classes{1, 0};
  const auto gradient = [&](const std::function<Tensor(const Tensor&)>& f) {
    const Tensor z = Tensor::from(std::vector<float>{0.5f, -1, 2, 0.25f}, {2, 2});
    set_requires_grad(z, true);
    backward(f(cross_entropy(z, Tensor::from(classes, {2}), 0.5)));
    return grad(z).to_vector<float>();
  };
  const auto plain = gradient([](const Tensor& loss) { return loss; });
  const auto doubled = gradient([](const Tensor& loss) { return affine(loss, 2); });
  const auto summed = gradient([](const Tensor& loss) { return add(loss, loss); });
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_FLOAT_EQ(doubled[i], 2 * plain[i]);
    EXPECT_FLOAT_EQ(summed[i], 2 * plain[i]);
  }
}

}  // namespace
}  // namespace mullion::test
