// Normalisations, rotary embedding, softmax, losses and lookups on the device against the CPU's
// kernels: in f32, and in bf16 against f32 on the rounded inputs.
#include <gtest/gtest.h>

#include "tensor/kernel_args/linear.h"
#include "tensor/kernel_args/norm.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class RowKernels : public KernelsOfType {};
OF_BOTH_TYPES(RowKernels);

struct Rows {
  int64_t rows, width, skew;
};
// Odd widths; then both sides of each width at which a row goes to more threads (512, 2048) or is
// no longer held in registers (8192), for rows that move 16 bytes at a time and for rows that move
// single elements; then starts that are not aligned.
const Rows kRows[] = {{5, 1, 0},    {5, 3, 0},    {5, 33, 0},   {5, 127, 0},  {5, 576, 0},
                      {3, 1000, 0}, {2, 512, 0},  {2, 520, 0},  {2, 511, 0},  {2, 513, 0},
                      {2, 2048, 0}, {2, 2056, 0}, {2, 2047, 0}, {2, 2049, 0}, {2, 8192, 0},
                      {2, 8200, 0}, {2, 8191, 0}, {2, 8193, 0}, {5, 96, 1},   {3, 576, 1},
                      {2, 4096, 1}};
// So many rows that a group of threads has several, and partial sums are many.
const Rows kManyRows[] = {
    {1200, 3, 0}, {1200, 32, 1}, {300, 576, 0}, {280, 520, 1}, {270, 2056, 0}};
// Rows of a vocabulary.
const Rows kVocabularies[] = {{2, 128256, 0}, {2, 50257, 0}, {1, 128256, 1}};

std::vector<Rows> all(std::initializer_list<std::pair<const Rows*, size_t>> lists) {
  std::vector<Rows> result;
  for (auto [first, count] : lists) result.insert(result.end(), first, first + count);
  return result;
}
#define LIST(array) \
  { array, std::size(array) }

std::string name(const Rows& r) { return concat(r.rows, " rows of ", r.width, ", skew ", r.skew); }

TEST_P(RowKernels, RmsNorm) {
  for (const Rows& r : all({LIST(kRows), LIST(kVocabularies)})) {
    SCOPED_TRACE(name(r));
    const Floats x = values(r.rows * r.width, 1, -2, 2), w = spread(r.width, 2, DType::f32);
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      void* y = side.out(r.rows * r.width);
      side.table().rms_norm({.x = side.in(x),
                             .weight = side.exact_in(w),
                             .y = y,
                             .rstd = side.exact_out(r.rows),
                             .dtype = side.type(),
                             .rows = r.rows,
                             .width = r.width,
                             .eps = 1e-5});
    });
  }
}

TEST_P(RowKernels, RmsNormGradient) {
  for (const Rows& r : all({LIST(kRows), LIST(kManyRows)})) {
    SCOPED_TRACE(name(r));
    const int64_t n = r.rows * r.width;
    const Floats x = values(n, 1, -2, 2), g = values(n, 3), w = spread(r.width, 2, DType::f32);
    const Floats rstd = spread(r.rows, 4, DType::f32, 0.5f, 1.5f);
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      RmsNormBackwardArgs args{.x = side.in(x),
                               .weight = side.exact_in(w),
                               .rstd = side.exact_in(rstd),
                               .g = side.in(g),
                               .dx = side.out(n),
                               .dweight = side.exact_out(r.width),
                               .dtype = side.type(),
                               .rows = r.rows,
                               .width = r.width};
      side.table().rms_norm_backward(args);
      args.dx = nullptr, args.dweight = side.exact_out(r.width);
      side.table().rms_norm_backward(args);
      args.dx = side.out(n), args.dweight = nullptr;
      side.table().rms_norm_backward(args);
    });
  }
}

TEST_P(RowKernels, LayerNorm) {
  for (const Rows& r : all({LIST(kRows), LIST(kVocabularies)})) {
    SCOPED_TRACE(name(r));
    // The mean is several times the spread, which f32 pays for.
    const Floats x = values(r.rows * r.width, 1, 3, 5);
    const Floats w = spread(r.width, 2, DType::f32), b = spread(r.width, 3, DType::f32);
    compare_sides(type(), r.skew, 2 * tolerance(), [&](Side& side) {
      void* y = side.out(r.rows * r.width);
      float* mean = side.exact_out(r.rows);
      side.table().layer_norm({.x = side.in(x),
                               .weight = side.exact_in(w),
                               .bias = side.exact_in(b),
                               .y = y,
                               .mean = mean,
                               .rstd = side.exact_out(r.rows),
                               .dtype = side.type(),
                               .rows = r.rows,
                               .width = r.width,
                               .eps = 1e-5});
    });
  }
}

TEST_P(RowKernels, LayerNormGradient) {
  for (const Rows& r : all({LIST(kRows), LIST(kManyRows)})) {
    SCOPED_TRACE(name(r));
    const int64_t n = r.rows * r.width;
    const Floats x = values(n, 1, -2, 2), g = values(n, 3), w = spread(r.width, 2, DType::f32);
    const Floats mean = spread(r.rows, 5, DType::f32);
    const Floats rstd = spread(r.rows, 4, DType::f32, 0.5f, 1.5f);
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      LayerNormBackwardArgs args{.x = side.in(x),
                                 .weight = side.exact_in(w),
                                 .mean = side.exact_in(mean),
                                 .rstd = side.exact_in(rstd),
                                 .g = side.in(g),
                                 .dx = side.out(n),
                                 .dweight = side.exact_out(r.width),
                                 .dbias = side.exact_out(r.width),
                                 .dtype = side.type(),
                                 .rows = r.rows,
                                 .width = r.width};
      side.table().layer_norm_backward(args);
      args.dx = nullptr, args.dweight = nullptr, args.dbias = side.exact_out(r.width);
      side.table().layer_norm_backward(args);
      args.dx = side.out(n), args.dbias = nullptr;
      side.table().layer_norm_backward(args);
    });
  }
}

TEST_P(RowKernels, WeightGradientsOfNoRowsAreZero) {
  const Floats w = spread(10, 2, DType::f32);
  compare_sides(type(), 0, 0, [&](Side& side) {
    side.table().rms_norm_backward({.x = nullptr,
                                    .weight = side.exact_in(w),
                                    .rstd = nullptr,
                                    .g = nullptr,
                                    .dx = nullptr,
                                    .dweight = side.exact_out(10),
                                    .dtype = side.type(),
                                    .rows = 0,
                                    .width = 10});
    side.table().layer_norm_backward({.x = nullptr,
                                      .weight = side.exact_in(w),
                                      .mean = nullptr,
                                      .rstd = nullptr,
                                      .g = nullptr,
                                      .dx = nullptr,
                                      .dweight = side.exact_out(10),
                                      .dbias = side.exact_out(10),
                                      .dtype = side.type(),
                                      .rows = 0,
                                      .width = 10});
  });
}

TEST_P(RowKernels, RopeTurnsAndTurnsBack) {
  struct Heads {
    int64_t heads, head_dim, skew;
  };
  for (const Heads& h :
       {Heads{3, 2, 0}, {3, 10, 0}, {5, 16, 0}, {3, 64, 0}, {3, 64, 1}, {9, 128, 0}}) {
    SCOPED_TRACE(concat(h.heads, " heads of ", h.head_dim, ", skew ", h.skew));
    const int64_t batch = 2, tokens = 7, n = batch * tokens * h.heads * h.head_dim;
    const Floats x = values(n, 1);
    Floats cosine, sine;
    for (int64_t i = 0; i < tokens * h.head_dim / 2; ++i) {
      cosine.push_back(std::cos(0.37f * static_cast<float>(i)));
      sine.push_back(std::sin(0.37f * static_cast<float>(i)));
    }
    compare_sides(type(), h.skew, tolerance(), [&](Side& side) {
      for (const bool inverse : {false, true})
        side.table().rope({.x = side.in(x),
                           .cos = side.exact_in(cosine),
                           .sin = side.exact_in(sine),
                           .y = side.out(n),
                           .dtype = side.type(),
                           .batch = batch,
                           .tokens = tokens,
                           .heads = h.heads,
                           .head_dim = h.head_dim,
                           .inverse = inverse});
    });
  }
}

TEST_P(RowKernels, SoftmaxAndItsGradient) {
  for (const Rows& r : all({LIST(kRows), LIST(kVocabularies)})) {
    SCOPED_TRACE(name(r));
    const int64_t n = r.rows * r.width;
    const Floats x = values(n, 1, -20, 20), y = values(n, 2, 0, 1), g = values(n, 3);
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      side.table().softmax({.x = side.in(x),
                            .y = side.out(n),
                            .dtype = side.type(),
                            .rows = r.rows,
                            .width = r.width});
    });
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      side.table().softmax_backward({.y = side.in(y),
                                     .g = side.in(g),
                                     .dx = side.out(n),
                                     .dtype = side.type(),
                                     .rows = r.rows,
                                     .width = r.width});
    });
  }
}

TEST_P(RowKernels, CrossEntropyAndItsGradient) {
  for (const Rows& r : all({LIST(kRows), LIST(kVocabularies)})) {
    SCOPED_TRACE(name(r));
    const Floats x = values(r.rows * r.width, 1, -9, 9);
    std::vector<int64_t> targets;
    for (int64_t i = 0; i < r.rows; ++i) targets.push_back(i % 3 == 2 ? -100 : i * 31 % r.width);
    targets[0] = r.width - 1;
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      for (const bool write_grad : {false, true})
        side.table().cross_entropy({.logits = side.in_out(x),
                                    .targets = side.ids(targets),
                                    .loss = side.exact_out(r.rows),
                                    .dtype = side.type(),
                                    .rows = r.rows,
                                    .width = r.width,
                                    .write_grad = write_grad});
    });
  }
}

TEST_P(RowKernels, SoftCrossEntropyAndItsGradient) {
  for (const Rows& r : all({LIST(kRows)})) {
    SCOPED_TRACE(name(r));
    const int64_t n = r.rows * r.width;
    const Floats x = values(n, 1, -9, 9), p = spread(n, 2, DType::f32, 0, 0.5f);
    compare_sides(type(), r.skew, tolerance(), [&](Side& side) {
      SoftCrossEntropyArgs args{.logits = side.in(x),
                                .probabilities = side.exact_in(p),
                                .loss = side.exact_out(r.rows),
                                .dlogits = side.out(n),
                                .dtype = side.type(),
                                .rows = r.rows,
                                .width = r.width};
      side.table().soft_cross_entropy(args);
      args.loss = side.exact_out(r.rows), args.dlogits = nullptr;
      side.table().soft_cross_entropy(args);
    });
  }
}

// Logits of minus infinity are classes that cannot be: probability 0, and no NaN from them.
TEST_P(RowKernels, MinusInfinityHasNoProbability) {
  for (const int64_t width : {40, 1000, 9000}) {
    Floats x = values(width, 1, -9, 9);
    std::fill(x.begin(), x.begin() + width * 9 / 10, -INFINITY);
    compare_sides(type(), 0, tolerance(), [&](Side& side) {
      side.table().softmax(
          {.x = side.in(x), .y = side.out(width), .dtype = side.type(), .rows = 1, .width = width});
      side.table().cross_entropy({.logits = side.in_out(x),
                                  .targets = side.ids({width - 1}),
                                  .loss = side.exact_out(1),
                                  .dtype = side.type(),
                                  .rows = 1,
                                  .width = width,
                                  .write_grad = true});
    });
  }
}

TEST_P(RowKernels, NanReachesLossAndSums) {
  Side side(Device{DeviceType::cuda}, type(), 0);
  Floats x = values(3 * 700, 1);
  x[900] = NAN;
  const Floats w = spread(700, 2, DType::f32);
  side.table().cross_entropy({.logits = side.in_out(x),
                              .targets = side.ids({1, 2, 3}),
                              .loss = side.exact_out(3),
                              .dtype = side.type(),
                              .rows = 3,
                              .width = 700,
                              .write_grad = true});
  side.table().rms_norm({.x = side.in(x),
                         .weight = side.exact_in(w),
                         .y = side.out(3 * 700),
                         .rstd = side.exact_out(3),
                         .dtype = side.type(),
                         .rows = 3,
                         .width = 700,
                         .eps = 1e-5});
  const auto results = side.results();
  for (const size_t k : {1, 3}) {
    EXPECT_TRUE(std::isfinite(results[k][0]));
    EXPECT_TRUE(std::isnan(results[k][1]));
    EXPECT_TRUE(std::isfinite(results[k][2]));
  }
}

TEST_P(RowKernels, Embedding) {
  for (const Rows& r : {Rows{29, 1, 0}, {29, 17, 0}, {29, 576, 0}, {29, 576, 1}, {29, 1000, 0}}) {
    SCOPED_TRACE(name(r));
    const Floats table = spread(r.rows * r.width, 1, DType::bf16);
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < 50; ++i) ids.push_back(i * i % r.rows);
    const int64_t n = 50 * r.width;
    compare_sides(type(), r.skew, 0, [&](Side& side) {
      const int64_t* at = side.ids(ids);
      side.table().embedding({.table = side.in(table),
                              .table_type = side.type(),
                              .ids = at,
                              .y = side.out(n),
                              .dtype = side.type(),
                              .count = 50,
                              .rows = r.rows,
                              .width = r.width});
      // A table of the other type; on the CPU all is f32.
      const bool cpu = side.on_cpu();
      const DType other = cpu || side.type() == DType::bf16 ? DType::f32 : DType::bf16;
      side.table().embedding({.table = side.in_as(other, table),
                              .table_type = other,
                              .ids = at,
                              .y = side.out(n),
                              .dtype = side.type(),
                              .count = 50,
                              .rows = r.rows,
                              .width = r.width});
    });
  }
}

TEST_P(RowKernels, EmbeddingGradient) {
  struct Lookups {
    int64_t count, rows, width, skew;
  };
  // Few and many rows a bucket, a row that is met again and again, rows that are never met.
  for (const Lookups& k : {Lookups{300, 29, 1, 0},
                           {300, 29, 17, 0},
                           {300, 700, 64, 0},
                           {300, 700, 64, 1},
                           {700, 5000, 8, 0},
                           {900, 140000, 1, 0},
                           {5, 3, 576, 0},
                           {1, 1, 2000, 0}}) {
    SCOPED_TRACE(concat(k.count, " of ", k.rows, " rows of ", k.width, ", skew ", k.skew));
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < k.count; ++i) ids.push_back(i % 3 ? i * i * 37 % k.rows : k.rows - 1);
    const Floats g = values(k.count * k.width, 2);
    // The order of the additions is the CPU's: equal to the bit in f32.
    compare_sides(type(), k.skew, type() == DType::f32 ? 0 : tolerance(), [&](Side& side) {
      side.table().embedding_backward({.g = side.in(g),
                                       .ids = side.ids(ids),
                                       .dtable = side.out(k.rows * k.width),
                                       .dtype = side.type(),
                                       .count = k.count,
                                       .rows = k.rows,
                                       .width = k.width});
    });
  }
}

class RowKernelsOnDevice : public OnDevice<> {};

TEST_F(RowKernelsOnDevice, RefuseWhatTheyDoNotCompute) {
  const KernelTable& table = kernels(Device{DeviceType::cuda});
  try {
    table.rms_norm({.x = nullptr,
                    .weight = nullptr,
                    .y = nullptr,
                    .rstd = nullptr,
                    .dtype = DType::f64,
                    .rows = 1,
                    .width = 1,
                    .eps = 1e-5});
    FAIL() << "f64 was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("rms_norm: f64"), std::string::npos) << error.what();
  }
  EXPECT_THROW(
      table.softmax(
          {.x = nullptr, .y = nullptr, .dtype = DType::f32, .rows = 1, .width = int64_t{1} << 31}),
      Error);
  EXPECT_THROW(table.rope({.x = nullptr,
                           .cos = nullptr,
                           .sin = nullptr,
                           .y = nullptr,
                           .dtype = DType::f32,
                           .batch = 1,
                           .tokens = 1,
                           .heads = 1,
                           .head_dim = 3,
                           .inverse = false}),
               Error);
}

}  // namespace
}  // namespace mullion::test
