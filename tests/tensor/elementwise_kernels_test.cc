// Elementwise kernels, sums and random numbers of the table against plain loops in double.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <vector>

#include "tensor/check.h"
#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

const KernelTable& table() { return kernels({}); }
constexpr int64_t kSizes[] = {1, 2, 15, 16, 17, 100, 70001};

template <typename T>
class Elementwise : public ::testing::Test {};
using FloatTypes = ::testing::Types<float, double>;
TYPED_TEST_SUITE(Elementwise, FloatTypes);

using Function = double (*)(double);

// One unary op against the C library, its derivative against central differences in double.
template <typename T>
void check_unary(int op, Function f, double low, double high) {
  for (int64_t n : kSizes) {
    Buffer<T> x(n, 1, low, high), g(n, 2), y(n), dx(n);
    table().unary[op]({.x = x.data(), .y = y.data(), .dtype = dtype_of<T>(), .n = n});
    table().unary_backward[op]({.x = x.data(),
                                .y = y.data(),
                                .g = g.data(),
                                .dx = dx.data(),
                                .dtype = dtype_of<T>(),
                                .n = n});
    for (int64_t i = 0; i < n; ++i) {
      const double at = double{x[i]}, h = 1e-5;
      expect_close(double{y[i]}, f(at), tolerance_of<T>(), i);
      if (std::abs(at) < 2 * h) continue;  // relu has no derivative at 0
      const double slope = (f(at + h) - f(at - h)) / (2 * h);
      expect_close(double{dx[i]}, double{g[i]} * slope, sizeof(T) == 4 ? 4e-6 : 1e-8, i);
    }
  }
}

TYPED_TEST(Elementwise, UnaryOpsAndTheirDerivatives) {
  using T = TypeParam;
  check_unary<T>(
      UnaryOps::Neg, [](double x) { return -x; }, -5, 5);
  check_unary<T>(
      UnaryOps::Exp, [](double x) { return std::exp(x); }, -5, 3);
  check_unary<T>(
      UnaryOps::Log, [](double x) { return std::log(x); }, 0.5, 9);
  check_unary<T>(
      UnaryOps::Sqrt, [](double x) { return std::sqrt(x); }, 0.5, 9);
  check_unary<T>(
      UnaryOps::Square, [](double x) { return x * x; }, -3, 3);
  check_unary<T>(
      UnaryOps::Tanh, [](double x) { return std::tanh(x); }, -6, 6);
  check_unary<T>(
      UnaryOps::Sigmoid, [](double x) { return 1 / (1 + std::exp(-x)); }, -9, 9);
  check_unary<T>(
      UnaryOps::Relu, [](double x) { return x > 0 ? x : 0; }, -3, 3);
  check_unary<T>(
      UnaryOps::Silu, [](double x) { return x / (1 + std::exp(-x)); }, -9, 9);
  check_unary<T>(
      UnaryOps::Gelu, [](double x) { return 0.5 * x * (1 + std::erf(x * M_SQRT1_2)); }, -9, 9);
  check_unary<T>(
      UnaryOps::GeluTanh,
      [](double x) {
        return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
      },
      -5, 5);
}

TEST(Elementwise, SpecialValuesAreThoseOfTheCLibrary) {
  const float inf = INFINITY;
  const float x[] = {inf, -inf, NAN, 0.0f, -0.0f, -1.0f, 88.7f, 89.0f, -103.0f, 1e-45f, 3e38f};
  constexpr int64_t n = std::size(x);
  const auto check = [&](int op, float (*f)(float)) {
    Buffer<float> y(n);
    table().unary[op]({.x = x, .y = y.data(), .dtype = DType::f32, .n = n});
    for (int64_t i = 0; i < n; ++i) expect_close(double{y[i]}, double{f(x[i])}, 1e-6, i);
  };
  check(UnaryOps::Exp, [](float v) { return std::exp(v); });
  check(UnaryOps::Log, [](float v) { return std::log(v); });
  check(UnaryOps::Tanh, [](float v) { return std::tanh(v); });
  check(UnaryOps::Sqrt, [](float v) { return std::sqrt(v); });
}

// In the tails, where nothing is left of x, and beyond.
TEST(Elementwise, GeluOfSpecialValues) {
  const float inf = INFINITY;
  const float x[] = {inf,   -inf,   NAN,  0.0f,  -0.0f, 1e-45f, -1e-45f, 1e-20f, 5.49f, -5.49f,
                     5.51f, -5.51f, 9.0f, -9.0f, 14.4f, -14.4f, 1e4f,    -1e4f,  3e38f, -3e38f};
  constexpr int64_t n = std::size(x);
  const std::vector<float> g(n, 1.0f);
  Buffer<float> y(n), dx(n);
  table().unary[UnaryOps::Gelu]({.x = x, .y = y.data(), .dtype = DType::f32, .n = n});
  table().unary_backward[UnaryOps::Gelu](
      {.x = x, .y = y.data(), .g = g.data(), .dx = dx.data(), .dtype = DType::f32, .n = n});
  for (int64_t i = 0; i < n; ++i) {
    const double at = x[i], phi = 0.5 * std::erfc(-at * M_SQRT1_2);
    const double density = std::exp(-0.5 * at * at) / std::sqrt(2 * M_PI);
    expect_close(double{y[i]}, at * phi, 2e-7, i);
    expect_close(double{dx[i]}, phi + at * density, 3e-7, i);
  }
}

TEST(Elementwise, OtherTypesAreRefusedByName) {
  try {
    table().affine(
        {.x = nullptr, .y = nullptr, .dtype = DType::bf16, .n = 1, .alpha = 1, .beta = 0});
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("affine"), std::string::npos);
    EXPECT_NE(std::string(error.what()).find("bf16"), std::string::npos);
  }
}

// A binary op over a shape, with the strides of its operands.
template <typename T>
void check_binary(Shape shape, Shape sa, Shape sb) {
  const auto reach = [&](const Shape& strides) {
    int64_t last = 0;
    for (int axis = 0; axis < shape.rank(); ++axis) last += (shape[axis] - 1) * strides[axis];
    return last + 1;
  };
  Buffer<T> a(reach(sa), 1), b(reach(sb), 2, 0.5, 2), y(shape.numel());
  const std::function<double(double, double)> f[] = {std::plus<>(), std::minus<>(),
                                                     std::multiplies<>(), std::divides<>()};
  for (int op = 0; op < BinaryOps::size; ++op) {
    table().binary[op]({.a = a.data(),
                        .b = b.data(),
                        .y = y.data(),
                        .dtype = dtype_of<T>(),
                        .shape = shape,
                        .a_strides = sa,
                        .b_strides = sb});
    for (int64_t i = 0; i < shape.numel(); ++i) {
      int64_t rest = i, at_a = 0, at_b = 0;
      for (int axis = shape.rank() - 1; axis >= 0; --axis) {
        at_a += rest % shape[axis] * sa[axis];
        at_b += rest % shape[axis] * sb[axis];
        rest /= shape[axis];
      }
      expect_close(double{y[i]}, f[op](double{a[at_a]}, double{b[at_b]}), tolerance_of<T>(), i);
    }
  }
}

TYPED_TEST(Elementwise, BinaryOpsBroadcast) {
  using T = TypeParam;
  check_binary<T>({}, {}, {});
  check_binary<T>({1}, {0}, {1});
  check_binary<T>({70001}, {1}, {1});
  check_binary<T>({70001}, {1}, {0});
  check_binary<T>({70001}, {0}, {1});
  check_binary<T>({300, 131}, {131, 1}, {0, 1});         // a bias
  check_binary<T>({300, 131}, {131, 1}, {1, 0});         // a column
  check_binary<T>({30, 131}, {1, 0}, {0, 1});            // an outer product
  check_binary<T>({30, 13}, {1, 30}, {13, 1});           // a transposed operand
  check_binary<T>({30, 13}, {26, 2}, {1, 30});           // nothing contiguous
  check_binary<T>({4, 3, 17}, {51, 17, 1}, {17, 0, 1});  // a broadcast axis inside
  check_binary<T>({2, 3, 4, 5, 6, 7}, {2520, 840, 210, 42, 7, 1}, {0, 210, 0, 42, 0, 1});
  check_binary<T>({2, 1, 3, 1}, {3, 99, 1, 99}, {1, 0, 2, 0});  // axes of size 1
}

TYPED_TEST(Elementwise, AffineAccumulateFill) {
  using T = TypeParam;
  for (int64_t n : kSizes) {
    Buffer<T> x(n, 1), y(n), z(n, 2), old(n, 2), filled(n);
    table().affine({.x = x.data(),
                    .y = y.data(),
                    .dtype = dtype_of<T>(),
                    .n = n,
                    .alpha = 1.5,
                    .beta = -0.25});
    table().accumulate({.x = x.data(), .y = z.data(), .dtype = dtype_of<T>(), .n = n, .alpha = -2});
    table().fill({.y = filled.data(), .dtype = dtype_of<T>(), .n = n, .value = 0.5});
    for (int64_t i = 0; i < n; ++i) {
      expect_close(double{y[i]}, 1.5 * double{x[i]} - 0.25, tolerance_of<T>(), i);
      expect_close(double{z[i]}, double{old[i]} - 2 * double{x[i]}, tolerance_of<T>(), i);
      EXPECT_EQ(filled[i], T(0.5));
    }
  }
}

TYPED_TEST(Elementwise, Swiglu) {
  using T = TypeParam;
  const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
  for (int64_t n : {1, 17, 20000}) {
    Buffer<T> gate(n, 1, -8, 8), up(n, 2), g(n, 3), y(n), dgate(n), dup(n), alone(n);
    const void *pg = gate.data(), *pu = up.data();
    table().swiglu({.gate = pg, .up = pu, .y = y.data(), .dtype = dtype_of<T>(), .n = n});
    table().swiglu_backward({.gate = pg,
                             .up = pu,
                             .g = g.data(),
                             .dgate = dgate.data(),
                             .dup = dup.data(),
                             .dtype = dtype_of<T>(),
                             .n = n});
    table().swiglu_backward({.gate = pg,
                             .up = pu,
                             .g = g.data(),
                             .dgate = nullptr,
                             .dup = alone.data(),
                             .dtype = dtype_of<T>(),
                             .n = n});
    for (int64_t i = 0; i < n; ++i) {
      const double x = double{gate[i]}, s = 1 / (1 + std::exp(-x));
      expect_close(double{y[i]}, silu(x) * double{up[i]}, tolerance_of<T>(), i);
      expect_close(double{dup[i]}, silu(x) * double{g[i]}, tolerance_of<T>(), i);
      expect_close(double{dgate[i]}, double{g[i]} * double{up[i]} * s * (1 + x * (1 - s)),
                   tolerance_of<T>() * 4, i);
      EXPECT_EQ(alone[i], dup[i]);
    }
  }
}

TYPED_TEST(Elementwise, SumAxis) {
  using T = TypeParam;
  const int64_t sizes[][3] = {{1, 1, 1},     {1, 100001, 1}, {3, 40, 1},   {70, 1000, 1},
                              {1, 1000, 96}, {5, 129, 7},    {300, 2, 33}, {2, 1, 100},
                              {1, 3, 50000}, {4, 0, 5},      {4, 0, 1},    {1000, 17, 16}};
  for (const auto& [outer, reduced, inner] : sizes) {
    Buffer<T> x(outer * reduced * inner, 1), y(outer * inner);
    table().sum_axis({.x = x.data(),
                      .y = y.data(),
                      .dtype = dtype_of<T>(),
                      .outer = outer,
                      .reduced = reduced,
                      .inner = inner,
                      .alpha = 0.5});
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        double sum = 0;
        for (int64_t r = 0; r < reduced; ++r) sum += double{x[(o * reduced + r) * inner + i]};
        expect_close(double{y[o * inner + i]}, 0.5 * sum,
                     tolerance_of<T>() * std::sqrt(1.0 + static_cast<double>(reduced)),
                     o * inner + i);
      }
  }
}

// Sums do not depend on the number of threads.
TEST(Elementwise, SumsHaveTheSameBitsOnOneThread) {
  Buffer<float> x(300 * 1000, 1), columns(300), again(300), whole(1), whole_again(1);
  const auto sum = [&](float* y, float* w) {
    table().sum_axis({.x = x.data(),
                      .y = y,
                      .dtype = DType::f32,
                      .outer = 1,
                      .reduced = 1000,
                      .inner = 300,
                      .alpha = 1});
    table().sum_axis({.x = x.data(),
                      .y = w,
                      .dtype = DType::f32,
                      .outer = 1,
                      .reduced = 300000,
                      .inner = 1,
                      .alpha = 1});
  };
  sum(columns.data(), whole.data());
  set_num_threads(1);
  sum(again.data(), whole_again.data());
  set_num_threads(0);
  EXPECT_EQ(columns.values(), again.values());
  EXPECT_EQ(whole[0], whole_again[0]);
}

TYPED_TEST(Elementwise, RandomFollowsTheCounter) {
  using T = TypeParam;
  constexpr int64_t n = 40003;
  constexpr uint64_t seed = 11, stream = 5;
  Buffer<T> uniform(n), normal(n), kept(n);
  const DType type = dtype_of<T>();
  using Kind = RandomArgs::Kind;
  table().random({.kind = Kind::uniform,
                  .y = uniform.data(),
                  .dtype = type,
                  .n = n,
                  .a = -2,
                  .b = 3,
                  .seed = seed,
                  .stream = stream});
  table().random({.kind = Kind::normal,
                  .y = normal.data(),
                  .dtype = type,
                  .n = n,
                  .a = 1,
                  .b = 2,
                  .seed = seed,
                  .stream = stream});
  table().random({.kind = Kind::bernoulli,
                  .y = kept.data(),
                  .dtype = type,
                  .n = n,
                  .a = 0.8,
                  .b = 1.25,
                  .seed = seed,
                  .stream = stream});
  double sum = 0, squares = 0, count = 0;
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t word = philox(seed, stream, static_cast<uint64_t>(i / 4)).v[i % 4];
    const double u = double{uniform_from_bits(word)};
    expect_close(double{uniform[i]}, -2 + 5 * u, tolerance_of<T>(), i);
    EXPECT_LT(uniform[i], T(3));
    EXPECT_EQ(double{kept[i]}, uniform_from_bits(word) < 0.8f ? 1.25 : 0);
    sum += double{normal[i]};
    squares += double{normal[i]} * double{normal[i]};
    count += kept[i] != 0;
  }
  EXPECT_NEAR(sum / n, 1, 0.05);
  EXPECT_NEAR(squares / n, 5, 0.2);
  EXPECT_NEAR(count / n, 0.8, 0.01);
}

}  // namespace
}  // namespace mullion::test
