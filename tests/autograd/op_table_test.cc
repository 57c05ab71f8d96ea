// The checks derived from each row of the op table:
//   forward   f64 and f32 against the reference, with fresh memory poisoned by NaN
//   gradient  f64 against central differences along random directions, with a random projection of
//             the result (a plain sum is blind for softmax)
//   control   the same check must fail when the gradients are scaled by 1.01
//   strided   inputs that are views with gaps give the same bits
//   repeat    two runs give the same bits, gradients too
// and for the table as a whole: every function of autograd/ops.h has a row.
#include "tests/autograd/op_table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <regex>
#include <set>

#include "autograd/engine.h"
#include "tests/autograd/op_call.h"
#include "tests/source_dir.h"

namespace mullion::test {
namespace {

class OpTable : public testing::TestWithParam<OpRow> {
 protected:
  void SetUp() override { set_poison_fresh_memory(true); }
  void TearDown() override { set_poison_fresh_memory(false); }
};

// The same elements in a wider tensor whose other elements are NaN.
Tensor with_gaps(const Tensor& x) {
  if (x.rank() == 0) return x;
  Shape wide = x.shape();
  wide[wide.rank() - 1] += 3;
  const Tensor store = x.dtype() == DType::i64 ? Tensor::full(wide, 1 << 20, DType::i64)
                                               : Tensor::full(wide, NAN, x.dtype());
  const Tensor view = raw::slice(store, -1, 2, 2 + x.dim(-1));
  raw::copy_into(x, view);
  return view;
}

TEST_P(OpTable, ForwardIsTheFormula) {
  const OpRow& row = GetParam();
  for (const auto& [dtype, tolerance] :
       {std::pair{DType::f64, 1e-9}, {DType::f32, row.f32_tolerance}}) {
    const Call call = inputs_of(row, dtype);
    const Tensor y = row.call(call.tensors);
    const Values actual = y.to_vector<double>(), expected = row.reference(call.values);
    ASSERT_EQ(actual.size(), expected.size());
    const double scale = largest(expected);
    for (size_t i = 0; i < actual.size(); ++i)
      ASSERT_LE(std::abs(actual[i] - expected[i]), tolerance * scale)
          << "element " << i << " of " << name_of(dtype) << ": " << actual[i] << ", expected "
          << expected[i];
  }
}

// The largest disagreement between the analytic and the numeric derivative along one random
// direction an input, relative to its size. `factor` falsifies the gradients.
double gradient_error(const OpRow& row, double factor) {
  const Call call = inputs_of(row, DType::f64);
  const Tensor y = row.call(call.tensors);
  const Tensor projection = random_like(y, 100);
  backward(y, projection);
  const Values p = projection.to_vector<double>();
  double worst = 0;
  for (size_t i = 0; i < call.tensors.size(); ++i) {
    if (!requires_grad(call.tensors[i])) continue;
    EXPECT_TRUE(grad(call.tensors[i]).defined()) << row.op << ": input " << i << " has no gradient";
    if (!grad(call.tensors[i]).defined()) return INFINITY;
    const Values g = grad(call.tensors[i]).to_vector<double>();
    // Each element gets a direction of its own size, so that no element hides behind the others.
    const Values d = random_like(call.tensors[i], 200 + i).to_vector<double>();
    double analytic = 0, size = 1e-6;
    for (size_t e = 0; e < g.size(); ++e) {
      analytic += g[e] * d[e];
      size += std::abs(g[e] * d[e]);
    }
    const auto shifted = [&](double h) {
      NoGrad no_grad;
      std::vector<Tensor> moved = call.tensors;
      Values x = call.values[i];
      for (size_t e = 0; e < x.size(); ++e) x[e] += h * d[e];
      moved[i] = tensor_of(row.inputs[i], x, DType::f64);
      const Values out = row.call(moved).to_vector<double>();
      double sum = 0;
      for (size_t e = 0; e < out.size(); ++e) sum += out[e] * p[e];
      return sum;
    };
    const double h = 1e-5, numeric = (shifted(h) - shifted(-h)) / (2 * h);
    worst = std::max(worst, std::abs(analytic * factor - numeric) / size);
  }
  return worst;
}

TEST_P(OpTable, GradientIsTheDerivativeAndTheCheckCanFail) {
  const OpRow& row = GetParam();
  EXPECT_LT(gradient_error(row, 1.0), 1e-6);
  EXPECT_GT(gradient_error(row, 1.01), 1e-6) << "a falsified gradient went unnoticed";
}

TEST_P(OpTable, StridedInputsAndRepetitionGiveTheSameBits) {
  const OpRow& row = GetParam();
  for (const DType dtype : {DType::f32, DType::f64}) {
    std::vector<std::vector<Values>> runs;
    for (const bool strided : {false, true, false}) {
      Call call = inputs_of(row, dtype);
      std::vector<Tensor> leaves = call.tensors;
      if (strided)
        for (size_t i = 0; i < leaves.size(); ++i) {
          const bool needs = requires_grad(leaves[i]);
          leaves[i] = with_gaps(detached(leaves[i]));
          if (needs) set_requires_grad(leaves[i], true);
        }
      const Tensor y = row.call(leaves);
      backward(y, random_like(y, 100));
      std::vector<Values> run = {y.to_vector<double>()};
      for (const Tensor& leaf : leaves)
        if (requires_grad(leaf)) run.push_back(grad(leaf).to_vector<double>());
      for (const Values& v : run)
        for (const double x : v) ASSERT_TRUE(std::isfinite(x)) << "an element was never written";
      runs.push_back(run);
    }
    EXPECT_EQ(runs[0], runs[1]) << "strided views differ";
    EXPECT_EQ(runs[0], runs[2]) << "two runs differ";
  }
}

INSTANTIATE_TEST_SUITE_P(Rows, OpTable, testing::ValuesIn(op_table()), row_name);

TEST(OpTableAsAWhole, EveryPublicOpHasARow) {
  std::ifstream header(std::string(test::source_dir) + "/autograd/ops.h");
  ASSERT_TRUE(header);
  std::set<std::string> with_row;
  for (const OpRow& row : op_table()) with_row.insert(row.op);
  const std::regex declaration("^(?:Tensor|std::vector<Tensor>) (\\w+)\\(.*");
  std::string line;
  int ops = 0;
  while (std::getline(header, line)) {
    std::smatch match;
    if (!std::regex_match(line, match, declaration)) continue;
    ++ops;
    EXPECT_TRUE(with_row.count(match[1])) << match[1] << " has no row in tests/op_cases";
  }
  EXPECT_GT(ops, 30);
}

}  // namespace
}  // namespace mullion::test
