// Elementwise kernels, sums, random numbers, optimizers and products on the device against the
// CPU's kernels: in f32, and in bf16 against f32 on the rounded inputs.
#include <gtest/gtest.h>

#include "tensor/kernel_args/elementwise.h"
#include "tensor/kernel_args/linear.h"
#include "tensor/kernel_args/optimizer.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

class CoreKernels : public OnDevice<testing::TestWithParam<DType>> {
 protected:
  DType type() const { return GetParam(); }
  float tolerance() const { return type() == DType::bf16 ? 1e-2f : 1e-5f; }
  Floats values(int64_t n, uint64_t stream, float low = -1, float high = 1) const {
    return spread(n, stream, type(), low, high);
  }
};
INSTANTIATE_TEST_SUITE_P(Types, CoreKernels, testing::Values(DType::f32, DType::bf16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

// Whole vectors, tails, starts that are not aligned, more than one block.
TEST_P(CoreKernels, MapsOfEveryLength) {
  for (const int64_t n : {1, 3, 4, 8, 13, 2048, 5003})
    for (const int64_t skew : {0, 1}) {
      SCOPED_TRACE(concat(n, " elements, skew ", skew));
      const Floats x = values(n, 1, -3, 3), g = values(n, 2), y = values(n, 3);
      compare_sides(type(), skew, tolerance(), [&](Side& side) {
        const auto dtype = side.type();
        side.table().unary[UnaryOps::Gelu](
            {.x = side.in(x), .y = side.out(n), .dtype = dtype, .n = n});
        side.table().unary_backward[UnaryOps::Gelu]({.x = side.in(x),
                                                     .y = side.in(y),
                                                     .g = side.in(g),
                                                     .dx = side.out(n),
                                                     .dtype = dtype,
                                                     .n = n});
        side.table().affine(
            {.x = side.in(x), .y = side.out(n), .dtype = dtype, .n = n, .alpha = 0.5, .beta = -2});
        side.table().accumulate(
            {.x = side.in(x), .y = side.in_out(g), .dtype = dtype, .n = n, .alpha = 0.25});
        side.table().binary[BinaryOps::Sub]({.a = side.in(x),
                                             .b = side.in(g),
                                             .y = side.out(n),
                                             .dtype = dtype,
                                             .shape = {n},
                                             .a_strides = {1},
                                             .b_strides = {1}});
      });
    }
}

TEST_P(CoreKernels, BinaryOverStridedSpaces) {
  struct Space {
    Shape shape, a, b;
  };
  // a dense, b a row, a column, a scalar; both with gaps; b turned; rows that are odd.
  const Space spaces[] = {
      {{6, 16}, {16, 1}, {0, 1}},         {{6, 16}, {16, 1}, {1, 0}},
      {{6, 16}, {16, 1}, {0, 0}},         {{6, 16}, {0, 0}, {16, 1}},
      {{4, 8}, {24, 1}, {40, 1}},         {{4, 8}, {25, 1}, {40, 1}},
      {{5, 6}, {6, 1}, {1, 5}},           {{3, 7}, {7, 1}, {0, 1}},
      {{2, 3, 8}, {24, 8, 1}, {8, 0, 1}}, {{2, 3, 4, 8}, {96, 32, 8, 1}, {8, 0, 16, 1}}};
  for (const Space& s : spaces) {
    SCOPED_TRACE(concat(s.shape, " ", s.a, " ", s.b));
    const Floats a = values(200, 1), b = values(200, 2, 0.5f, 2);
    compare_sides(type(), 0, tolerance(), [&](Side& side) {
      const int64_t n = s.shape.numel();
      side.table().binary[BinaryOps::Div]({.a = side.in(a),
                                           .b = side.in(b),
                                           .y = side.out(n),
                                           .dtype = side.type(),
                                           .shape = s.shape,
                                           .a_strides = s.a,
                                           .b_strides = s.b});
    });
  }
}

// One warp a row, one block, several pieces; columns alone, in blocks and in pieces; many outer.
TEST_P(CoreKernels, SumsOverAnyAxis) {
  const int64_t sizes[][3] = {{3, 5, 1},     {9, 512, 1},   {3, 513, 1},  {2, 4104, 1},
                              {2, 40001, 1}, {1, 33000, 1}, {2, 1, 1},    {2, 3, 1000},
                              {3, 49, 40},   {1, 1100, 33}, {2, 3000, 3}, {1, 20000, 2},
                              {4099, 2, 2},  {2, 0, 3},     {2, 0, 1}};
  for (const auto& [outer, reduced, inner] : sizes)
    for (const int64_t skew : {0, 1}) {
      SCOPED_TRACE(concat(outer, " x ", reduced, " x ", inner, ", skew ", skew));
      const Floats x = values(outer * reduced * inner, 1, -0.5f, 1);
      compare_sides(type(), skew, tolerance(), [&, o = outer, r = reduced, i = inner](Side& side) {
        side.table().sum_axis({.x = side.in(x),
                               .y = side.out(o * i),
                               .dtype = side.type(),
                               .outer = o,
                               .reduced = r,
                               .inner = i,
                               .alpha = 0.5});
      });
    }
}

TEST_P(CoreKernels, RandomNumbersAreTheCpus) {
  using Kind = RandomArgs::Kind;
  for (const int64_t n : {1, 6, 4001})
    for (const Kind kind : {Kind::uniform, Kind::bernoulli, Kind::normal}) {
      SCOPED_TRACE(concat(n, " of kind ", static_cast<int>(kind)));
      const double a = kind == Kind::uniform ? -0.3 : 0.25;
      const auto draw = [&](Device device, DType dtype) {
        const Tensor y = Tensor::empty({n}, dtype, device);
        kernels(device).random({.kind = kind,
                                .y = y.data<void>(),
                                .dtype = dtype,
                                .n = n,
                                .a = a,
                                .b = 0.7,
                                .seed = 99,
                                .stream = 5});
        return y;
      };
      const Tensor expected = raw::cast(draw(Device{}, DType::f32), type());
      const auto e = expected.to_vector<float>(), found = draw(kCuda, type()).to_vector<float>();
      for (size_t i = 0; i < e.size(); ++i)
        if (kind == Kind::normal)
          ASSERT_NEAR(found[i], e[i], tolerance() * 0.1f) << i;
        else
          ASSERT_EQ(found[i], e[i]) << i;
    }
}

// --- optimizers ---------------------------------------------------------------------------------
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

// --- products -----------------------------------------------------------------------------------
class ProductsOnDevice : public OnDevice<> {};

struct Product {
  DType a, b, c;
  bool allow_bf16 = false;
  int64_t batch = 1, m = 9, n = 12, k = 20;
  bool transpose_a = false, transpose_b = false, bias = false;
  bool share_a = false, share_b = false;
  double alpha = 1, beta = 0;
  int64_t gap = 0, skew = 0;  // between rows; of the starts, in elements
  bool residual = false, gelu = false, keep_before_gelu = false;
};

void check(const Product& p) {
  SCOPED_TRACE(concat(name_of(p.a), " ", name_of(p.b), " ", name_of(p.c), " batch ", p.batch, " ",
                      p.m, " x ", p.n, " x ", p.k, p.transpose_a ? " A'" : "",
                      p.transpose_b ? " B'" : "", p.bias ? " bias" : "",
                      p.residual ? " residual" : "", p.gelu ? " gelu" : "",
                      p.keep_before_gelu ? " kept" : "", " gap ", p.gap, " skew ", p.skew));
  const int64_t lda = (p.transpose_a ? p.m : p.k) + p.gap,
                ldb = (p.transpose_b ? p.k : p.n) + p.gap;
  const int64_t ldc = p.n + p.gap;
  const int64_t size_a = (p.transpose_a ? p.k : p.m) * lda,
                size_b = (p.transpose_b ? p.n : p.k) * ldb;
  const int64_t size_c = p.m * ldc;
  // What the product sees: operands rounded where they are bf16, or made so.
  const bool narrow = p.a == DType::bf16 || (p.b == DType::bf16 && p.allow_bf16);
  const DType seen_a = narrow ? DType::bf16 : p.a, seen_b = narrow ? DType::bf16 : p.b;
  const Floats a = spread((p.share_a ? 1 : p.batch) * size_a, 1, seen_a);
  const Floats b = spread((p.share_b ? 1 : p.batch) * size_b, 2, seen_b);
  const Floats bias = spread(p.n, 3, p.c == DType::bf16 ? DType::bf16 : DType::f32);
  const Floats old = spread(p.batch * size_c, 4, p.c), residual = spread(p.batch * size_c, 5, p.c);
  const float tolerance = p.c == DType::bf16 ? 1e-2f : 1e-5f;
  compare_sides(p.c, p.skew, tolerance, [&](Side& side) {
    const auto as = [&](DType type, const Floats& v) {
      return side.in_as(side.on_cpu() ? DType::f32 : type, v);
    };
    const auto type = [&](DType t) { return side.on_cpu() ? DType::f32 : t; };
    side.table().matmul({.a = as(p.a, a),
                         .b = as(p.b, b),
                         .c = side.in_out(old),
                         .bias = p.bias ? side.exact_in(bias) : nullptr,
                         .a_type = type(p.a),
                         .b_type = type(p.b),
                         .c_type = type(p.c),
                         .batch = p.batch,
                         .m = p.m,
                         .n = p.n,
                         .k = p.k,
                         .transpose_a = p.transpose_a,
                         .transpose_b = p.transpose_b,
                         .lda = lda,
                         .ldb = ldb,
                         .ldc = ldc,
                         .stride_a = p.share_a ? 0 : size_a,
                         .stride_b = p.share_b ? 0 : size_b,
                         .stride_c = size_c,
                         .alpha = p.alpha,
                         .beta = p.beta,
                         .allow_bf16 = p.allow_bf16,
                         .residual = p.residual ? side.in(residual) : nullptr,
                         .gelu = p.gelu,
                         .before_gelu = p.keep_before_gelu ? side.out(p.batch * size_c) : nullptr});
  });
}

TEST_F(ProductsOnDevice, EveryTypeAndTransposition) {
  constexpr DType wide = DType::f32, narrow = DType::bf16;
  const Product types[] = {{wide, wide, wide},     {wide, narrow, wide}, {wide, narrow, wide, true},
                           {narrow, wide, narrow}, {narrow, wide, wide}, {narrow, narrow, narrow},
                           {narrow, narrow, wide}};
  for (Product p : types)
    for (const bool transpose_a : {false, true})
      for (const bool transpose_b : {false, true}) {
        p.transpose_a = transpose_a, p.transpose_b = transpose_b;
        p.bias = transpose_b;
        check(p);
        p.gap = 3, p.skew = 1, p.alpha = 0.5, p.beta = 2;
        check(p);
        p.gap = p.skew = 0, p.alpha = 1, p.beta = 0;
      }
}

TEST_F(ProductsOnDevice, BatchesSharedOperandsAndSizes) {
  for (const DType type : {DType::f32, DType::bf16}) {
    Product p{type, type, type};
    p.batch = 3;
    for (const bool share_a : {false, true})
      for (const bool share_b : {false, true})
        for (const bool transpose_a : {false, true}) {
          p.share_a = share_a, p.share_b = share_b, p.transpose_a = transpose_a;
          check(p);
        }
    for (const int64_t size : {1, 2, 33}) {
      check({.a = type, .b = type, .c = type, .m = size});
      check({.a = type, .b = type, .c = type, .n = size, .bias = true});
      check({.a = type, .b = type, .c = type, .k = size, .transpose_b = true});
    }
  }
  // A shared bf16 operand beside a batch of f32.
  check({.a = DType::f32,
         .b = DType::bf16,
         .c = DType::f32,
         .batch = 3,
         .transpose_a = true,
         .share_b = true});
  check({.a = DType::f32,
         .b = DType::bf16,
         .c = DType::f32,
         .allow_bf16 = true,
         .batch = 3,
         .transpose_a = true,
         .share_a = true});
}

TEST_F(ProductsOnDevice, AnInnerSizeOfZeroLeavesBetaCAndTheBias) {
  for (const DType type : {DType::f32, DType::bf16})
    for (const double beta : {0.0, 0.5})
      check({.a = type,
             .b = type,
             .c = type,
             .batch = 2,
             .k = 0,
             .bias = true,
             .beta = beta,
             .gap = 2});
}

// In f32 GELU is a pass of its own, in bf16 part of the product where n is a multiple of 8.
TEST_F(ProductsOnDevice, Epilogues) {
  constexpr DType wide = DType::f32, narrow = DType::bf16;
  const Product types[] = {
      {wide, wide, wide}, {wide, narrow, wide}, {narrow, wide, narrow}, {narrow, narrow, narrow}};
  for (Product p : types)
    for (const int64_t n : {12, 16})
      for (const int64_t k : {0, 20})
        for (const bool bias : {false, true}) {
          p.n = n, p.k = k, p.bias = bias;
          p.residual = true, p.gelu = p.keep_before_gelu = false;
          check(p);
          p.gelu = true;
          check(p);
          p.residual = false, p.keep_before_gelu = true;
          check(p);
        }
  check({.a = wide, .b = wide, .c = wide, .batch = 3, .gap = 3, .skew = 1, .residual = true});
  check(
      {.a = narrow, .b = narrow, .c = narrow, .batch = 3, .gelu = true, .keep_before_gelu = true});
}

TEST_F(ProductsOnDevice, RefusesWhatIsForTheCpu) {
  const Tensor x = Tensor::zeros({4}, DType::f32, kCuda);
  MatmulArgs args{.a = x.data<void>(),
                  .b = x.data<void>(),
                  .c = x.data<void>(),
                  .a_type = DType::f64,
                  .b_type = DType::f64,
                  .c_type = DType::f64,
                  .batch = 1,
                  .m = 1,
                  .n = 1,
                  .k = 1,
                  .lda = 1,
                  .ldb = 1,
                  .ldc = 1,
                  .stride_a = 0,
                  .stride_b = 0,
                  .stride_c = 0,
                  .alpha = 1};
  EXPECT_THROW(kernels(kCuda).matmul(args), Error);
  args.a_type = args.b_type = DType::f32, args.c_type = DType::bf16;
  EXPECT_THROW(kernels(kCuda).matmul(args), Error);
}

}  // namespace
}  // namespace mullion::test
