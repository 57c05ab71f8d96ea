// Products with matrices of blocks and their rows on the device against the CPU's, every type:
// exact ones, and where rows of x may be rounded to 8 bits those of integers.
#include "tensor/block_matrix.h"
#include "tensor/rounded_products.h"
#include "tests/block_bytes.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class BlockKernels : public OnDevice<testing::TestWithParam<StoredType>> {
 protected:
  // Made-up blocks, on both sides.
  struct Both {
    BlockMatrix here, there;
    const void* on(const Side& side) const {
      return (side.on_cpu() ? here : there).bytes().data<void>();
    }
  };
  static Both blocks(int64_t rows, int64_t width) {
    const BlockMatrix here(GetParam(), rows, width);
    const std::vector<std::byte> bytes = made_up_blocks(GetParam(), rows * width, 11);
    uint8_t* target = here.bytes().data<uint8_t>();
    std::memcpy(target, bytes.data(), bytes.size());
    return {here, to_device(here, kCuda)};
  }
  static int64_t width() { return 2 * static_cast<int64_t>(layout_of(GetParam()).block); }
  // y = 0.5 x op(W) + y, and forward y = 0.5 x W^T + bias + residual as well.
  static void multiply(Side& side, const Both& w, int64_t m, const Floats& x, const Floats& y,
                       bool backward) {
    BlockMatmulArgs args{.x = side.in(x),
                         .blocks = w.on(side),
                         .y = side.in_out(y),
                         .type = GetParam(),
                         .dtype = side.type(),
                         .m = m,
                         .rows = w.here.rows(),
                         .width = w.here.width(),
                         .backward = backward,
                         .alpha = 0.5,
                         .beta = 1};
    side.table().block_matmul(args);
    if (backward) return;
    args.beta = 0;
    args.y = side.out(m * args.rows);
    args.bias = side.exact_in(spread(args.rows, 5, DType::f32));
    args.residual = side.in(y);
    side.table().block_matmul(args);
  }
  // Made-up weights are as large as 80: in bf16, whose 8 bits hold these rows, their sums cancel.
  static float tolerance(DType type) { return type == DType::bf16 ? 1e-1f : 2e-5f; }
  static Floats activations(int64_t n) {
    Floats x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = (i % 32 == 7 ? 127.0f : static_cast<float>(mix_bits(3, i) % 255) - 127) / 128;
    return x;
  }
};
INSTANTIATE_TEST_SUITE_P(Types, BlockKernels, testing::ValuesIn(kBlockTypes),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST_P(BlockKernels, ExactProductsOfFewAndOfManyRows) {
  constexpr int64_t kRows = 7;
  const Both w = blocks(kRows, width());
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t m : {int64_t{1}, int64_t{3}, kFewBlockRows, kFewBlockRows + 1})
      for (const bool backward : {false, true}) {
        SCOPED_TRACE(concat(name_of(type), ", ", m, " rows", backward ? ", backward" : ""));
        const int64_t n = backward ? width() : kRows, k = backward ? kRows : width();
        const Floats x = activations(m * k), y = activations(m * n);
        compare_sides(type, 0, tolerance(type),
                      [&](Side& side) { multiply(side, w, m, x, y, backward); });
      }
}

// The CPU rounds in the same way, and its sums of integers are as exact; so the tolerance is that
// of the sums of scaled ones. Rounding itself is a hundred times as much. In bf16 results are those
// of f32 for the same x, rounded at the end alone.
TEST_P(BlockKernels, ProductsOfRoundedRows) {
  constexpr int64_t kRows = 7;
  const RoundedProducts allowed;
  for (const int64_t wide : {width(), 3 * width()}) {  // a lane has one part of a row, or several
    const Both w = blocks(kRows, wide);
    for (const int64_t m : {int64_t{1}, int64_t{3}, kFewBlockRows, 2 * kFewBlockRows + 3}) {
      SCOPED_TRACE(concat(m, " rows of ", wide));
      Floats x = spread(m * wide, 3, DType::bf16);
      const Floats y = spread(m * kRows, 4, DType::bf16);
      for (int i = 0; i < 32; ++i) {
        x[static_cast<size_t>(m * wide - 32 + i)] = 0;            // a group without a scale
        x[static_cast<size_t>(i)] *= i % 2 ? 1 / 1024.0f : 4.0f;  // and one with a large one
      }
      const auto call = [&](Side& side) { multiply(side, w, m, x, y, false); };
      compare_sides(DType::f32, 0, tolerance(DType::f32), call);
      compare_sides(DType::bf16, 0, tolerance(DType::bf16), call);
      Side wider(kCuda, DType::f32, 0), narrow(kCuda, DType::bf16, 0);
      call(wider), call(narrow);
      const auto expected = wider.results(), found = narrow.results();
      for (size_t k = 0; k < expected.size(); ++k)
        for (size_t i = 0; i < expected[k].size(); ++i)
          ASSERT_NEAR(found[k][i], expected[k][i], std::abs(expected[k][i]) / 256 + 1e-5f)
              << "bf16, at " << i << " of output " << k;
    }
  }
}

TEST_P(BlockKernels, ARowWithANanIsNanWhereItIsRounded) {
  const RoundedProducts allowed;
  const Both w = blocks(5, width());
  Floats x = spread(2 * width(), 3, DType::f32);
  for (const float bad : {NAN, INFINITY}) {
    x[40] = bad;
    Side side(kCuda, DType::f32, 0);
    multiply(side, w, 2, x, spread(10, 4, DType::f32), false);
    for (const Floats& y : side.results())
      for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i < 5) << i;
  }
}

TEST_P(BlockKernels, Rows) {
  const Both w = blocks(5, width());
  for (const DType type : {DType::f32, DType::bf16})
    compare_sides(type, 0, type == DType::bf16 ? 1e-2f : 1e-6f, [&](Side& side) {
      side.table().block_rows({.blocks = w.on(side),
                               .ids = side.ids({3, 0, 4, 3}),
                               .y = side.out(4 * width()),
                               .type = GetParam(),
                               .dtype = side.type(),
                               .count = 4,
                               .rows = 5,
                               .width = width()});
    });
}

}  // namespace
}  // namespace mullion::test
