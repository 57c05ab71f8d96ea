// The optimizers of the table against plain loops in double, and what is left out of an update.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

const KernelTable& table() { return kernels({}); }

struct Parameters {
  std::vector<std::unique_ptr<Buffer<float>>> p, g, m, v;
  std::vector<OptimizerItem> items;
  std::vector<std::vector<double>> dp, dm, dv;  // the same in double
  Parameters() {
    for (int64_t n : {1, 17, 40000, 33, 5}) add(n);
  }
  void add(int64_t n) {
    const auto fresh = [n](auto& list, uint64_t stream) {
      list.push_back(std::make_unique<Buffer<float>>(n, stream));
      return list.back()->data();
    };
    const auto zeroed = [&](auto& list) {
      float* x = fresh(list, 1);
      std::fill(x, x + n, 0.0f);
      return x;
    };
    float* parameter = fresh(p, items.size());
    const float* grad = fresh(g, 100 + items.size());
    float* first = zeroed(m);
    items.push_back({parameter, grad, first, zeroed(v), n, 0.01 * static_cast<double>(n % 7 + 1),
                     n % 2 ? 0.1 : 0.0});
    dp.emplace_back(parameter, parameter + n);
    dm.emplace_back(static_cast<size_t>(n));
    dv.emplace_back(static_cast<size_t>(n));
  }
  // update(p, g, m, v, item) in double on every element, then a comparison.
  template <typename F>
  void expect(F update) {
    for (size_t k = 0; k < items.size(); ++k)
      for (size_t i = 0; i < dp[k].size(); ++i) {
        update(dp[k][i], double{items[k].grad[i]}, dm[k][i], dv[k][i], items[k]);
        expect_close(double{items[k].parameter[i]}, dp[k][i], 3e-6, static_cast<int64_t>(i));
      }
  }
};

TEST(Optimizer, AdamWFollowsTheFormula) {
  Parameters params;
  const double sum_squares = 4;  // the norm 2, clipped to 1
  for (int64_t step = 1; step <= 4; ++step) {
    table().adamw({.items = params.items.data(),
                   .count = 5,
                   .step = step,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 1e-8,
                   .clipping = {.sum_squares = &sum_squares, .max_norm = 1}});
    params.expect([&](double& p, double g, double& m, double& v, const OptimizerItem& item) {
      const double t = static_cast<double>(step);
      g /= 2 + 1e-6;
      p -= item.lr * item.weight_decay * p;
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      p -= item.lr / (1 - std::pow(0.9, t)) * m /
           (std::sqrt(v) / std::sqrt(1 - std::pow(0.999, t)) + 1e-8);
    });
  }
}

TEST(Optimizer, SgdWithAndWithoutMomentum) {
  for (const double momentum : {0.0, 0.9})
    for (const bool nesterov : {false, true}) {
      Parameters params;
      if (momentum == 0)
        for (OptimizerItem& item : params.items) item.first = nullptr;
      const double sum_squares = 16;
      for (int64_t step = 1; step <= 3; ++step) {
        table().sgd({.items = params.items.data(),
                     .count = 5,
                     .step = step,
                     .momentum = momentum,
                     .nesterov = nesterov && momentum != 0,
                     .clipping = {.sum_squares = &sum_squares, .max_norm = 1}});
        params.expect([&](double& p, double g, double& m, double&, const OptimizerItem& item) {
          g = g / (4 + 1e-6) + item.weight_decay * p;
          m = step > 1 ? momentum * m + g : g;
          p -= item.lr * (nesterov && momentum != 0 ? g + momentum * m : m);
        });
      }
    }
}

TEST(Optimizer, EmaAndSumOfSquares) {
  Parameters params;
  table().ema({.items = params.items.data(), .count = 5, .decay = 0.99});
  double squares = 0, result = 0, alone = 0;
  params.expect([&](double& p, double g, double&, double&, const OptimizerItem&) {
    p = 0.99 * p + 0.01 * g;
    squares += g * g;
  });
  table().sum_squares({.items = params.items.data(), .count = 5, .result = &result});
  EXPECT_NEAR(result, squares, 1e-12 * squares);
  set_num_threads(1);
  table().sum_squares({.items = params.items.data(), .count = 5, .result = &alone});
  set_num_threads(0);
  EXPECT_EQ(result, alone);
  (*params.g[2])[77] = NAN;
  table().sum_squares({.items = params.items.data(), .count = 5, .result = &result});
  EXPECT_TRUE(std::isnan(result));
  table().sum_squares({.items = nullptr, .count = 0, .result = &result});
  EXPECT_EQ(result, 0);
}

TEST(Optimizer, AWatchedArrayAddsNothingUnlessItIsNotFinite) {
  Parameters params;
  double alone = 0, watched = 0;
  table().sum_squares({.items = params.items.data(), .count = 3, .result = &alone});
  table().sum_squares({.items = params.items.data(), .count = 3, .result = &watched, .watched = 2});
  EXPECT_EQ(alone, watched);
  (*params.g[4])[2] = INFINITY;
  table().sum_squares({.items = params.items.data(), .count = 3, .result = &watched, .watched = 2});
  EXPECT_TRUE(std::isnan(watched));
}

TEST(Optimizer, AnUpdateByANormThatIsNotFiniteIsLeftOut) {
  Parameters params;
  const auto values = [&] {
    std::vector<std::vector<float>> all;
    for (const auto* list : {&params.p, &params.m, &params.v})
      for (const auto& buffer : *list) all.push_back(buffer->values());
    return all;
  };
  const auto before = values();
  const auto adamw = [&](const double& sum_squares) {
    table().adamw({.items = params.items.data(),
                   .count = 5,
                   .step = 1,
                   .beta1 = 0.9,
                   .beta2 = 0.999,
                   .eps = 1e-8,
                   .clipping = {.sum_squares = &sum_squares, .max_norm = 1}});
  };
  for (const double bad : {double{NAN}, double{INFINITY}}) {
    adamw(bad);
    table().sgd({.items = params.items.data(),
                 .count = 5,
                 .step = 1,
                 .momentum = 0.9,
                 .nesterov = false,
                 .clipping = {.sum_squares = &bad, .max_norm = 0}});
    table().ema({.items = params.items.data(), .count = 5, .decay = 0.99, .sum_squares = &bad});
    EXPECT_EQ(values(), before);
  }
  adamw(1e-4);
  EXPECT_NE(values(), before);
}

}  // namespace
}  // namespace mullion::test
