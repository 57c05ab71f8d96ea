// Sweeps of the products with matrices of blocks (kernel_args/blocks.h), with every type, exact and
// where they may be rounded, on both sides of the rows that these take at once. Rows of x are whole
// numbers of 64ths of which each group of 32 has one of 127: the kernel's rounding to 8 bits
// changes none of them.
#include <optional>

#include "tensor/io/stored_type.h"
#include "tensor/random.h"
#include "tensor/rounded_products.h"
#include "tests/block_bytes.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

struct Blocks {
  const Array& bytes;
  std::vector<float> values;  // (rows, width)
};

Blocks blocks_of(Case& c, StoredType type, int64_t rows, int64_t width) {
  const std::vector<std::byte> bytes =
      test::made_up_blocks(type, rows * width, static_cast<uint64_t>(1000 * c.uniform(5)));
  std::vector<double> numbers;
  for (const std::byte b : bytes) numbers.push_back(static_cast<double>(b));
  std::vector<float> values(static_cast<size_t>(rows * width));
  to_f32(type, bytes.data(), values.size(), values.data());
  return {c.in("blocks", DType::u8, numbers), std::move(values)};
}

const Array& activations(Case& c, int64_t count) {
  std::vector<double> x(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i)
    x[static_cast<size_t>(i)] = (i % 32 == 7 ? 127 : std::floor(c.uniform(i) * 255) - 127) / 64.0;
  return c.in("x", x);
}

StoredType type_of(Case& c) { return static_cast<StoredType>(c["block_type"]); }

void multiply(Case& c) {
  const StoredType type = type_of(c);
  const auto block = static_cast<int64_t>(layout_of(type).block);
  const int64_t m = c["m"], rows = c["rows"], width = c["blocks"] * block;
  const bool backward = c["backward"];
  const int64_t n = backward ? width : rows, k = backward ? rows : width;
  const double alpha = static_cast<double>(c["alpha"]) / 2;
  const double beta = static_cast<double>(c["beta"]) / 2;
  const bool has_bias = c["bias"] && !backward;
  const bool has_residual = c["residual"] && !backward && beta == 0;
  const Blocks w = blocks_of(c, type, rows, width);
  const Array& x = activations(c, m * k);
  const Array& bias = c.in_if(has_bias, "bias", rows);
  const Array& residual = c.in_if(has_residual, "residual", m * n);
  Array& y = beta == 0 ? c.out("y", m * n) : c.in_out("y", m * n);
  std::optional<RoundedProducts> rounded;
  if (c["rounded"]) rounded.emplace();
  c.call(&KernelTable::block_matmul, BlockMatmulArgs{.x = x,
                                                     .blocks = w.bytes,
                                                     .y = y,
                                                     .bias = bias,
                                                     .residual = residual,
                                                     .type = type,
                                                     .dtype = c.type(),
                                                     .m = m,
                                                     .rows = rows,
                                                     .width = width,
                                                     .backward = backward,
                                                     .alpha = alpha,
                                                     .beta = beta});
  c.expect([&] {
    for (int64_t i = 0; i < m * n; ++i) {
      const int64_t row = i / n, column = i % n;
      double sum = 0, magnitude = 0;
      for (int64_t q = 0; q < k; ++q) {
        const int64_t at = backward ? q * width + column : column * width + q;
        const double term = x[row * k + q] * double{w.values[static_cast<size_t>(at)]};
        sum += term;
        magnitude += std::abs(term);
      }
      double value = alpha * sum;
      if (beta != 0) value += beta * y[i];
      if (has_bias) value += bias[column];
      if (has_residual) value += residual[i];
      y.expect(i, value, magnitude);
    }
  });
}

void lookup(Case& c) {
  const StoredType type = type_of(c);
  const int64_t count = c["count"], rows = c["rows"];
  const int64_t width = c["blocks"] * static_cast<int64_t>(layout_of(type).block);
  const Blocks w = blocks_of(c, type, rows, width);
  const std::vector<int64_t> numbers = c.indices(count, rows);
  const Array& ids = c.in("ids", numbers);
  Array& y = c.out("y", count * width);
  c.call(&KernelTable::block_rows, BlockRowsArgs{.blocks = w.bytes,
                                                 .ids = ids,
                                                 .y = y,
                                                 .type = type,
                                                 .dtype = c.type(),
                                                 .count = count,
                                                 .rows = rows,
                                                 .width = width});
  c.expect([&] {
    for (int64_t i = 0; i < count * width; ++i)
      y.expect(i, double{w.values[static_cast<size_t>(
                      numbers[static_cast<size_t>(i / width)] * width + i % width)]});
  });
}

}  // namespace

std::vector<Row> block_rows() {
  std::vector<int64_t> types;
  for (const StoredType type : test::kBlockTypes) types.push_back(static_cast<int64_t>(type));
  const std::vector<DType> floats{DType::f32, DType::f64};
  Row product{"block_matmul",
              {MULLION_SLOT(block_matmul)},
              floats,
              {{"block_type", types},
               {"m", {1, 3, kFewBlockRows, kFewBlockRows + 1, 2 * kFewBlockRows + 3}},
               {"rows", {1, 5, 33}},
               {"blocks", {1, 3, 9}},
               {"backward", {0, 1}},
               {"rounded", {0, 1}}},
              multiply,
              {{"alpha", {2, 1}}, {"beta", {0, 2, -3}}, {"bias", {0, 1}}, {"residual", {0, 1}}},
              1};
  // Around the depth of a panel, 1536.
  for (const int64_t rows : {1535, 1536, 1537})
    product.more_sizes.push_back({static_cast<int64_t>(StoredType::q4_1), 9, rows, 2, 1, 0});
  for (const int64_t blocks : {6, 7})
    for (const int64_t backward : {0, 1})
      product.more_sizes.push_back(
          {static_cast<int64_t>(StoredType::q4_k), 9, 343, blocks, backward, 0});
  // Around a panel's 64 columns, a tile's 48 rows, and the 1,024 of which sums are held at once.
  for (const int64_t rows : {15, 16, 17, 63, 64, 65, 130})
    product.more_sizes.push_back({static_cast<int64_t>(StoredType::q5_0), 49, rows, 2, 0, 0});
  for (const int64_t m : {47, 48, 55, 1023, 1024, 1025})
    product.more_sizes.push_back({static_cast<int64_t>(StoredType::q8_0), m, 17, 5, 0, 0});
  return {
      product,
      {"block_rows",
       {MULLION_SLOT(block_rows)},
       floats,
       {{"block_type", types}, {"count", {1, 2, 5}}, {"rows", {1, 3, 7}}, {"blocks", {1, 2, 9}}},
       lookup}};
}

}  // namespace mullion::sweep
