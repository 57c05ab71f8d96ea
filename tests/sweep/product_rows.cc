// Sweeps of the matrix product and of the row lookups (kernel_args/linear.h).
#include "tensor/cpu/matmul.h"
#include "tensor/cpu/pack.h"
#include "tests/sweep/sweep.h"

namespace mullion::sweep {
namespace {

constexpr int64_t kLanes = cpu::Pack<float>::kLanes;
const std::vector<DType> kFloats{DType::f32, DType::f64};

// A stored matrix of a batch, without what would follow its last row.
struct Stored {
  int64_t rows, columns, batch, pad;
  bool is_shared;
  int64_t ld() const { return columns + pad; }
  int64_t stride() const { return is_shared ? 0 : rows * ld(); }
  int64_t size() const {
    return (batch - 1) * stride() + std::max<int64_t>(0, rows - 1) * ld() + (rows ? columns : 0);
  }
};

enum Shared : int64_t { nothing, a_matrix, b_matrix };

void multiply(Case& c, DType b_type, bool allow_bf16) {
  const int64_t m = c["m"], n = c["n"], k = c["k"], batch = c["batch"], pad = c["pad"];
  const bool ta = c["transpose_a"], tb = c["transpose_b"];
  const double alpha = static_cast<double>(c["alpha"]) / 2;
  const double beta = static_cast<double>(c["beta"]) / 2;
  const bool has_residual = c["residual"] && beta == 0, gelu = c["gelu"] > 0;
  const Stored a{ta ? k : m, ta ? m : k, batch, pad, c["shared"] == a_matrix};
  const Stored b{tb ? n : k, tb ? k : n, batch, pad, c["shared"] == b_matrix};
  const Stored out{m, n, batch, pad, false};

  const Array &va = c.in("a", a.size()), &vb = c.in("b", b_type, b.size());
  const Array& bias = c.in_if(c["bias"], "bias", n);
  const Array& residual = c.in_if(has_residual, "residual", out.size());
  Array& before = c.out_if(c["gelu"] == 2, "before_gelu", out.size());
  Array& y = beta == 0 ? c.out("c", out.size()) : c.in_out("c", out.size());
  MatmulArgs args{.a = va,
                  .b = vb,
                  .c = y,
                  .bias = bias,
                  .a_type = c.type(),
                  .b_type = b_type,
                  .c_type = c.type(),
                  .batch = batch,
                  .m = m,
                  .n = n,
                  .k = k,
                  .transpose_a = ta,
                  .transpose_b = tb,
                  .lda = a.ld(),
                  .ldb = b.ld(),
                  .ldc = out.ld(),
                  .stride_a = a.stride(),
                  .stride_b = b.stride(),
                  .stride_c = out.stride(),
                  .alpha = alpha,
                  .beta = beta,
                  .allow_bf16 = allow_bf16};
  args.residual = residual;
  args.gelu = gelu;
  args.before_gelu = before;
  set_matmul_backend(static_cast<MatmulBackend>(c["backend"]));
  c.call(&KernelTable::matmul, args);
  set_matmul_backend(MatmulBackend::automatic);

  c.tolerance_factor = allow_bf16 ? 4000 : 1;  // A is rounded to bf16
  c.expect([&] {
    for (int64_t i = 0; i < batch * m * n; ++i) {
      const int64_t matrix = i / (m * n), row = i / n % m, column = i % n;
      const int64_t at_a = matrix * a.stride(), at_b = matrix * b.stride();
      double sum = 0, magnitude = 0;
      for (int64_t q = 0; q < k; ++q) {
        const double term = va[at_a + (ta ? q * a.ld() + row : row * a.ld() + q)] *
                            vb[at_b + (tb ? column * b.ld() + q : q * b.ld() + column)];
        sum += term;
        magnitude += std::abs(term);
      }
      const int64_t at = matrix * out.stride() + row * out.ld() + column;
      double value = alpha * sum;
      if (beta != 0) value += beta * y[at];
      if (c["bias"]) value += bias[column];
      if (has_residual) value += residual[at];
      before.expect(at, value, magnitude);
      if (gelu) value *= 0.5 * std::erfc(-value * std::sqrt(0.5));
      y.expect(at, value, magnitude);
    }
  });
}

// Every slot of the product's arguments beside its sizes.
std::vector<Axis> product_flags() {
  std::vector<int64_t> backends{static_cast<int64_t>(MatmulBackend::automatic),
                                static_cast<int64_t>(MatmulBackend::automatic),
                                static_cast<int64_t>(MatmulBackend::eigen)};
  return {{"alpha", {2, 1}},     // halves
          {"beta", {0, 2, -3}},  // halves
          {"bias", {0, 1}},
          {"residual", {0, 1}},
          {"gelu", {0, 1, 2}},
          {"batch", {1, 3}},
          {"shared", {nothing, a_matrix, b_matrix}},
          {"pad", {0, 3}},
          {"backend", backends}};
}

Row product_row(const char* name, std::vector<DType> types, DType b_type, bool allow_bf16) {
  Row row{name,
          {MULLION_SLOT(matmul)},
          std::move(types),
          // kThin and kSide are 4, kFewColumns 16, and few columns need a k of 64.
          {{"m", small_and_around({16})},
           {"n", small_and_around({16})},
           {"k", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, kLanes - 1, kLanes, kLanes + 1, 63, 64, 65}},
           {"transpose_a", {0, 1}},
           {"transpose_b", {0, 1}}},
          [=](Case& c) { multiply(c, b_type == DType::f32 ? c.type() : b_type, allow_bf16); },
          product_flags(),
          2};
  return row;
}

void embedding(Case& c) {
  const int64_t count = c["count"], rows = c["rows"], width = c["width"];
  const DType table_type = c["bf16_table"] && c.type() == DType::f32 ? DType::bf16 : c.type();
  const std::vector<int64_t> numbers = c.indices(count, rows);
  const Array &table = c.in("table", table_type, rows * width), &ids = c.in("ids", numbers);
  Array& y = c.out("y", count * width);
  c.call(&KernelTable::embedding, EmbeddingArgs{.table = table,
                                                .table_type = table_type,
                                                .ids = ids,
                                                .y = y,
                                                .dtype = c.type(),
                                                .count = count,
                                                .rows = rows,
                                                .width = width});
  c.expect([&] {
    for (int64_t i = 0; i < count * width; ++i)
      y.expect(i, table[numbers[static_cast<size_t>(i / width)] * width + i % width]);
  });
}

void embedding_backward(Case& c) {
  const int64_t count = c["count"], rows = c["rows"], width = c["width"];
  const std::vector<int64_t> numbers = c.indices(count, rows);
  const Array &g = c.in("g", count * width), &ids = c.in("ids", numbers);
  Array& dtable = c.out("dtable", rows * width);
  c.call(&KernelTable::embedding_backward, EmbeddingBackwardArgs{.g = g,
                                                                 .ids = ids,
                                                                 .dtable = dtable,
                                                                 .dtype = c.type(),
                                                                 .count = count,
                                                                 .rows = rows,
                                                                 .width = width});
  c.expect([&] {
    std::vector<double> sums(static_cast<size_t>(rows * width));
    for (int64_t i = 0; i < count * width; ++i)
      sums[static_cast<size_t>(numbers[static_cast<size_t>(i / width)] * width + i % width)] +=
          g[i];
    for (int64_t i = 0; i < rows * width; ++i)
      dtable.expect(i, sums[static_cast<size_t>(i)], static_cast<double>(count));
  });
}

}  // namespace

std::vector<Row> product_rows() {
  std::vector<Row> rows{product_row("matmul", kFloats, DType::f32, false),
                        product_row("matmul_bf16_weight", {DType::f32}, DType::bf16, false),
                        product_row("matmul_bf16_allowed", {DType::f32}, DType::bf16, true)};
  for (Row& row : rows) {
    // Around kWidenedDepth, and a tall product whose epilogue goes by blocks of rows.
    for (const int64_t tb : {0, 1}) {
      for (const int64_t k : {1535, 1536, 1537})
        for (const int64_t ta : {0, 1}) row.more_sizes.push_back({5, 343, k, ta, tb});
      for (const int64_t m : {255, 256, 257}) row.more_sizes.push_back({m, 1024, 8, 0, tb});
    }
  }
  // oneDNN makes code for every shape of a bf16 product: fewer of them.
  rows[2].sizes[0].values = {4, 5, 6, 9};
  rows[2].sizes[1].values = {1, 2, 3, 8, 17};
  rows[2].sizes[2].values = {0, 1, 2, 5, kLanes, kLanes + 1, 65};
  const std::vector<Axis> lookup{{"count", small_and_around()},
                                 {"rows", {1, 2, 3, 7}},
                                 {"width", small_and_around({kLanes, 2 * kLanes, 4 * kLanes})}};
  rows.push_back({"embedding",
                  {MULLION_SLOT(embedding)},
                  kFloats,
                  lookup,
                  embedding,
                  {{"bf16_table", {0, 1}}}});
  rows.push_back({"embedding_backward",
                  {MULLION_SLOT(embedding_backward)},
                  kFloats,
                  lookup,
                  embedding_backward});
  return rows;
}

}  // namespace mullion::sweep
