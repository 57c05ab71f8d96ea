// AdamW, SGD, moving averages and sums of squares on the device against the CPU's kernels.
#include <gtest/gtest.h>

#include "tensor/kernel_args/optimizer.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class OptimizersOnDevice : public OnDevice<> {};

// Parameters of odd sizes, one without elements, gradients that begin anywhere.
constexpr int64_t kSizes[] = {1, 17, 0, 4096, 4097, 20000, 5};

struct Lists {
  std::vector<OptimizerItem> items;
};
Lists lists_on(Side& side) {
  Lists l;
  uint64_t stream = 10;
  for (const int64_t n : kSizes) {
    auto* p = static_cast<float*>(side.in_out(spread(n, stream++, DType::f32)));
    const auto* g = static_cast<const float*>(side.in(spread(n + 1, stream++, DType::f32)));
    auto* m = static_cast<float*>(side.in_out(spread(n, stream++, DType::f32)));
    auto* v = static_cast<float*>(side.in_out(spread(n, stream++, DType::f32, 0, 1)));
    l.items.push_back(
        {p, g + n % 2, m, v, n, 0.01 * static_cast<double>(1 + n % 3), n % 2 ? 0.1 : 0.0});
  }
  return l;
}

const double* sum_on(Side& side, double value, std::vector<Tensor>& kept) {
  kept.push_back(raw::to_device(Tensor::from(std::vector<double>{value}, {1}),
                                side.on_cpu() ? Device{} : kCuda));
  return kept.back().data<double>();
}

TEST_F(OptimizersOnDevice, UpdateAsOnTheCpu) {
  constexpr auto count = static_cast<int64_t>(std::size(kSizes));
  for (const double sum : {4.0, 0.01, double{NAN}, double{INFINITY}})
    for (const bool clipped : {true, false}) {
      SCOPED_TRACE(concat(sum, clipped ? " clipped" : ""));
      std::vector<Tensor> kept;
      compare_sides(DType::f32, 0, 1e-6f, [&](Side& side) {
        const double max_norm = clipped ? 0.5 : 0;
        Clipping clipping{sum_on(side, sum, kept), max_norm};
        side.table().adamw({.items = lists_on(side).items.data(),
                            .count = count,
                            .step = 3,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8,
                            .clipping = clipping});
        side.table().adamw({.items = lists_on(side).items.data(),
                            .count = count,
                            .step = 1,
                            .beta1 = 0.9,
                            .beta2 = 0.99,
                            .eps = 1e-8});
        for (const int64_t step : {1, 2})
          for (const double momentum : {0.0, 0.9})
            for (const bool nesterov : {false, true})
              side.table().sgd({.items = lists_on(side).items.data(),
                                .count = count,
                                .step = step,
                                .momentum = momentum,
                                .nesterov = nesterov,
                                .clipping = clipping});
        side.table().ema({.items = lists_on(side).items.data(),
                          .count = count,
                          .decay = 0.9,
                          .sum_squares = sum_on(side, sum, kept)});
        side.table().ema({.items = lists_on(side).items.data(), .count = count, .decay = 0.9});
      });
    }
}

TEST_F(OptimizersOnDevice, EveryParameterMayHaveARateOfItsOwn) {
  constexpr int64_t n = 5, count = 50;
  compare_sides(DType::f32, 0, 1e-6f, [&](Side& side) {
    std::vector<OptimizerItem> items;
    for (int64_t i = 0; i < count; ++i) {
      const auto stream = static_cast<uint64_t>(4 * i);
      auto* p = static_cast<float*>(side.in_out(spread(n, stream, DType::f32)));
      const auto* g = static_cast<const float*>(side.in(spread(n, stream + 1, DType::f32)));
      auto* m = static_cast<float*>(side.in_out(spread(n, stream + 2, DType::f32)));
      auto* v = static_cast<float*>(side.in_out(spread(n, stream + 3, DType::f32, 0, 1)));
      items.push_back({p, g, m, v, n, 0.001 * static_cast<double>(i + 1), 0.1});
    }
    side.table().adamw({.items = items.data(),
                        .count = count,
                        .step = 3,
                        .beta1 = 0.9,
                        .beta2 = 0.99,
                        .eps = 1e-8});
    side.table().sgd(
        {.items = items.data(), .count = count, .step = 2, .momentum = 0.9, .nesterov = false});
  });
}

TEST_F(OptimizersOnDevice, SumOfSquaresIsTheCpusAndTheSameEachTime) {
  constexpr auto count = static_cast<int64_t>(std::size(kSizes));
  const auto sum = [&](Side& side, int64_t counted, int64_t watched) {
    const Device device = side.on_cpu() ? Device{} : kCuda;
    const Tensor result = Tensor::empty({}, DType::f64, device);
    const Lists lists = lists_on(side);
    side.table().sum_squares({.items = lists.items.data(),
                              .count = counted,
                              .result = result.data<double>(),
                              .watched = watched});
    return result.item();
  };
  Side cpu(Device{}, DType::f32, 0);
  const double expected = sum(cpu, count - 1, 1), all = sum(cpu, count, 0);
  EXPECT_NE(expected, all);
  std::vector<double> found;
  in_every_order([&](const std::string&) {
    Side side(kCuda, DType::f32, 0);
    found.push_back(sum(side, count - 1, 1));
    EXPECT_EQ(found.back(), found[0]);
    EXPECT_NEAR(found.back(), expected, 1e-12 * expected);
    EXPECT_NEAR(sum(side, count, 0), all, 1e-12 * all);
    EXPECT_EQ(sum(side, 0, 0), 0);
  });
}

TEST_F(OptimizersOnDevice, AWatchedValueThatIsNotFiniteShows) {
  for (const float bad : {NAN, INFINITY}) {
    const Tensor g = Tensor::full({5000}, 1.0, DType::f32, kCuda);
    const Tensor watched = Tensor::full({3}, bad, DType::f32, kCuda);
    const Tensor result = Tensor::empty({}, DType::f64, kCuda);
    const OptimizerItem items[] = {{nullptr, g.data<float>(), nullptr, nullptr, 5000, 0, 0},
                                   {nullptr, watched.data<float>(), nullptr, nullptr, 3, 0, 0}};
    kernels(kCuda).sum_squares(
        {.items = items, .count = 1, .result = result.data<double>(), .watched = 1});
    EXPECT_TRUE(std::isnan(result.item()));
  }
}

}  // namespace
}  // namespace mullion::test
