// Products with matrices of blocks and their rows on the device against the CPU's, every type. The
// rows of x are what the CPU's rounding to 8 bits leaves as it is.
#include "tensor/block_matrix.h"
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
  static Floats activations(int64_t n) {
    Floats x(static_cast<size_t>(n));
    for (size_t i = 0; i < x.size(); ++i)
      x[i] = (i % 32 == 7 ? 127.0f : static_cast<float>(mix_bits(3, i) % 255) - 127) / 128;
    return x;
  }
};
INSTANTIATE_TEST_SUITE_P(Types, BlockKernels, testing::ValuesIn(kBlockTypes),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST_P(BlockKernels, ProductsOfFewAndOfManyRows) {
  constexpr int64_t kRows = 7;
  const Both w = blocks(kRows, width());
  for (const DType type : {DType::f32, DType::bf16})
    for (const int64_t m : {int64_t{1}, int64_t{3}, kFewBlockRows, kFewBlockRows + 1})
      for (const bool backward : {false, true}) {
        SCOPED_TRACE(concat(name_of(type), ", ", m, " rows", backward ? ", backward" : ""));
        const int64_t n = backward ? width() : kRows, k = backward ? kRows : width();
        const Floats x = activations(m * k), y = activations(m * n);
        // Made-up weights are as large as 80: in bf16 their sums cancel.
        compare_sides(type, 0, type == DType::bf16 ? 1e-1f : 2e-5f, [&](Side& side) {
          BlockMatmulArgs args{.x = side.in(x),
                               .blocks = w.on(side),
                               .y = side.in_out(y),
                               .type = GetParam(),
                               .dtype = side.type(),
                               .m = m,
                               .rows = kRows,
                               .width = width(),
                               .backward = backward,
                               .alpha = 0.5,
                               .beta = 1};
          side.table().block_matmul(args);
          if (backward) return;
          args.beta = 0;
          args.y = side.out(m * n);
          args.bias = side.exact_in(spread(kRows, 5, DType::f32));
          args.residual = side.in(y);
          side.table().block_matmul(args);
        });
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
