// Products of rows with matrices of blocks, forward: a row's result has the same bits whatever
// stands beside it and however many threads work. (Values: tests/sweep/block_rows.cc.)
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/rounded_products.h"
#include "tensor/tensor.h"
#include "tests/block_bytes.h"

namespace mullion {
namespace {

constexpr int64_t kRows = 150, kWidth = 1792;  // beyond one panel in both directions

std::vector<float> product(StoredType type, const Tensor& x) {
  const std::vector<std::byte> blocks = test::made_up_blocks(type, kRows * kWidth, 5);
  const Tensor y = Tensor::empty({x.dim(0), kRows});
  kernels({}).block_matmul({.x = x.data<void>(),
                            .blocks = blocks.data(),
                            .y = y.data<void>(),
                            .type = type,
                            .dtype = DType::f32,
                            .m = x.dim(0),
                            .rows = kRows,
                            .width = kWidth});
  return y.to_vector<float>();
}

class BlockProducts : public testing::TestWithParam<StoredType> {};
INSTANTIATE_TEST_SUITE_P(Types, BlockProducts, testing::ValuesIn(test::kBlockTypes),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST_P(BlockProducts, ARowDependsOnNoOtherAndOnNoThread) {
  constexpr int64_t kMost = 103;
  std::vector<float> values(kMost * kWidth);
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(mix_bits(7, i) % 2001) / 1000 - 1;
  const Tensor x = Tensor::from(values, {kMost, kWidth});
  for (const bool may_round : {false, true}) {
    std::optional<RoundedProducts> rounded;
    if (may_round) rounded.emplace();
    const std::vector<float> all = product(GetParam(), x);
    for (const auto& [begin, end] : {std::pair{0, 1}, {37, 38}, {50, 58}, {102, 103}, {3, 100}}) {
      const std::vector<float> some = product(GetParam(), raw::slice(x, 0, begin, end));
      EXPECT_TRUE(std::equal(some.begin(), some.end(), all.begin() + begin * kRows))
          << "rows " << begin << " to " << end;
    }
    for (const int threads : {1, 3}) {
      set_num_threads(threads);
      set_finest_split(threads > 1);
      EXPECT_EQ(product(GetParam(), x), all) << threads << " threads";
    }
    set_finest_split(false);
    set_num_threads(0);
  }
}

}  // namespace
}  // namespace mullion
