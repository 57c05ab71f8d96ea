// The rungs of docs/kernels.md on the device: each computes what the reference computes.
#include "tests/cuda/ladder/ladder.h"

#include <gtest/gtest.h>

#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"
#include "tests/ladder/reference.h"

namespace mullion::test {
namespace {

Doubles doubles(const Floats& values) { return {values.begin(), values.end()}; }

void expect_close(const Floats& values, const Doubles& expected, double tolerance) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_NEAR(double{values[i]}, expected[i], tolerance * (1 + std::abs(expected[i]))) << i;
}

class LadderOnDevice : public OnDevice<> {};

TEST_F(LadderOnDevice, RmsNorm) {
  const auto tuned = [](const RmsNormArgs& args) { kernels(kCuda).rms_norm(args); };
  using Rung = std::function<void(const RmsNormArgs&)>;
  const Rung rungs[] = {ladder::rms_norm_thread_a_row, ladder::rms_norm_warp_a_row,
                        ladder::rms_norm_block_a_row, tuned};
  for (const DType type : {DType::f32, DType::bf16})
    for (const Rung& rung : rungs)
      for (const auto& [rows, width] : {std::pair<int64_t, int64_t>{7, 64}, {3, 4104}}) {
        const Floats x = spread(rows * width, 1, type), w = spread(width, 2, DType::f32);
        Side side(kCuda, type, 0);
        void* y = side.out(rows * width);
        rung({side.in(x), side.exact_in(w), y, side.exact_out(rows), type, rows, width, 1e-5});
        expect_close(side.results()[0], reference_rms_norm(doubles(x), doubles(w), 1e-5),
                     type == DType::bf16 ? 1e-2 : 1e-5);
      }
}

TEST_F(LadderOnDevice, Product) {
  using Rung = void (*)(const ladder::ProductArgs&);
  const Rung rungs[] = {ladder::product_thread_an_element, ladder::product_shared_tiles,
                        ladder::product_tensor_cores};
  struct Sizes {
    int64_t m, n, k;
  };
  // Parts of tiles in all three directions, a single step, several steps.
  for (const Sizes& s : {Sizes{70, 50, 72}, {129, 130, 8}, {3, 5, 200}})
    for (const Rung rung : rungs) {
      SCOPED_TRACE(concat(s.m, " x ", s.n, " x ", s.k, ", rung ", &rung - rungs));
      const Floats a = spread(s.m * s.k, 1, DType::bf16), w = spread(s.n * s.k, 2, DType::bf16);
      const Floats bias = spread(s.n, 3, DType::f32);
      Side side(kCuda, DType::bf16, 0);
      void* c = side.out(s.m * s.n);
      rung({side.in(a), side.in(w), side.exact_in(bias), c, s.m, s.n, s.k});
      expect_close(side.results()[0],
                   reference_product(doubles(a), doubles(w), doubles(bias), s.m, s.n, s.k), 1e-2);
    }
}

}  // namespace
}  // namespace mullion::test
