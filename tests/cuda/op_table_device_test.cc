// Every row of the op table on the device, in f32: the result against the row's formula, the
// gradients against the CPU's in f64, all memory poisoned before; and the same bits in every order
// of threads and blocks.
#include "tests/autograd/op_call.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class OpTableOnDevice : public OnDevice<testing::TestWithParam<OpRow>> {};

// The result and the gradient of each input.
struct Outcome {
  Values y;
  std::vector<Values> gradients;
  bool operator==(const Outcome&) const = default;
};

Outcome run(const OpRow& row, DType dtype, Device device) {
  const Call call = inputs_of(row, dtype, device);
  const Tensor y = row.call(call.tensors);
  EXPECT_EQ(y.device(), device);
  backward(y, random_like(y, 100));
  Outcome result{y.to_vector<double>(), {}};
  for (const Tensor& leaf : call.tensors)
    if (requires_grad(leaf)) result.gradients.push_back(grad(leaf).to_vector<double>());
  return result;
}

void expect_close(const std::string& what, const Values& actual, const Values& expected,
                  double tolerance) {
  ASSERT_EQ(actual.size(), expected.size());
  const double scale = largest(expected);
  for (size_t i = 0; i < actual.size(); ++i)
    ASSERT_LE(std::abs(actual[i] - expected[i]), tolerance * scale)
        << what << ", element " << i << ": " << actual[i] << ", expected " << expected[i];
}

TEST_P(OpTableOnDevice, IsTheFormulaInEveryOrder) {
  const OpRow& row = GetParam();
  const Outcome expected = run(row, DType::f64, Device{});
  Outcome first;
  in_every_order([&](const std::string& order) {
    SCOPED_TRACE(order);
    const Outcome result = run(row, DType::f32, kCuda);
    if (!first.y.empty()) {
      EXPECT_EQ(result, first) << "the bits differ from those of the first run";
      return;
    }
    first = result;
    expect_close("result", result.y, row.reference(inputs_of(row, DType::f64).values),
                 row.f32_tolerance);
    ASSERT_EQ(result.gradients.size(), expected.gradients.size());
    for (size_t i = 0; i < result.gradients.size(); ++i)
      expect_close("gradient " + std::to_string(i), result.gradients[i], expected.gradients[i],
                   row.f32_tolerance);
  });
}

INSTANTIATE_TEST_SUITE_P(Rows, OpTableOnDevice, testing::ValuesIn(op_table()), row_name);

}  // namespace
}  // namespace mullion::test
