// The matrix product against a plain loop in double: every combination of transposes, strides,
// scales, bias, batches and operand types, on both libraries.
#include <gtest/gtest.h>

#include <array>
#include <cmath>

#include "tensor/check.h"
#include "tensor/cpu/matmul.h"
#include "tensor/kernel_table.h"
#include "tensor/parallel.h"
#include "tensor/tensor.h"
#include "tests/kernel_buffer.h"

namespace mullion::test {
namespace {

struct Case {
  int64_t m, n, k, batch = 1;
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  bool bias = false, share_a = false, share_b = false, allow_bf16 = false;
  int64_t pad = 0;  // added to every distance between rows
  bool residual = false, gelu = false;

  std::string name() const {
    return concat("m ", m, " n ", n, " k ", k, " batch ", batch, " ta ", transpose_a, " tb ",
                  transpose_b, " alpha ", alpha, " beta ", beta, " bias ", bias, " shared ",
                  share_a, share_b, " pad ", pad, " residual ", residual, " gelu ", gelu);
  }
};

// Runs a case with A and C of type T, B of type S, and compares every element of C.
template <typename T, typename S>
void check(const Case& c, double tolerance = 0) {
  SCOPED_TRACE(c.name());
  const int64_t lda = (c.transpose_a ? c.m : c.k) + c.pad,
                ldb = (c.transpose_b ? c.k : c.n) + c.pad;
  const int64_t ldc = c.n + c.pad;
  const int64_t size_a = (c.transpose_a ? c.k : c.m) * lda;
  const int64_t size_b = (c.transpose_b ? c.n : c.k) * ldb, size_c = c.m * ldc;
  Buffer<T> a(c.share_a ? size_a : c.batch * size_a, 1), bias(c.n, 3);
  Buffer<float> b_values(c.share_b ? size_b : c.batch * size_b, 2);
  Buffer<S> b(b_values.size());
  for (int64_t i = 0; i < b.size(); ++i) b[i] = static_cast<S>(b_values[i]);
  Buffer<T> result(c.batch * size_c), old(c.batch * size_c, 4), before(c.batch * size_c);
  if (c.beta != 0)
    for (int64_t i = 0; i < result.size(); ++i) result[i] = old[i];
  MatmulArgs args{.a = a.data(),
                  .b = b.data(),
                  .c = result.data(),
                  .bias = c.bias ? bias.data() : nullptr,
                  .a_type = dtype_of<T>(),
                  .b_type = dtype_of<S>(),
                  .c_type = dtype_of<T>(),
                  .batch = c.batch,
                  .m = c.m,
                  .n = c.n,
                  .k = c.k,
                  .transpose_a = c.transpose_a,
                  .transpose_b = c.transpose_b,
                  .lda = lda,
                  .ldb = ldb,
                  .ldc = ldc,
                  .stride_a = c.share_a ? 0 : size_a,
                  .stride_b = c.share_b ? 0 : size_b,
                  .stride_c = size_c,
                  .alpha = c.alpha,
                  .beta = c.beta,
                  .allow_bf16 = c.allow_bf16};
  args.residual = c.residual ? old.data() : nullptr;
  args.gelu = c.gelu;
  args.before_gelu = c.gelu ? before.data() : nullptr;
  kernels({}).matmul(args);
  if (tolerance == 0)
    tolerance = (sizeof(T) == 4 ? 1e-6 : 1e-13) * std::sqrt(static_cast<double>(c.k) + 1);
  int64_t wrong = 0;
  for (int64_t i = 0; i < c.batch * c.m * c.n; ++i) {
    const int64_t batch = i / (c.m * c.n), row = i / c.n % c.m, column = i % c.n;
    double sum = 0;
    for (int64_t q = 0; q < c.k; ++q) {
      const int64_t at_a =
          (c.share_a ? 0 : batch * size_a) + (c.transpose_a ? q * lda + row : row * lda + q);
      const int64_t at_b =
          (c.share_b ? 0 : batch * size_b) + (c.transpose_b ? column * ldb + q : q * ldb + column);
      sum += static_cast<double>(a[at_a]) * static_cast<double>(static_cast<T>(b[at_b]));
    }
    const int64_t at = batch * size_c + row * ldc + column;
    double expected = c.alpha * sum + (c.bias ? static_cast<double>(bias[column]) : 0);
    if (c.beta != 0) expected += c.beta * static_cast<double>(old[at]);
    if (c.residual) expected += static_cast<double>(old[at]);
    if (c.gelu) {
      EXPECT_NEAR(static_cast<double>(before[at]), expected, tolerance * (1 + std::abs(expected)));
      expected *= 0.5 * std::erfc(-expected * std::sqrt(0.5));
    }
    const double found = static_cast<double>(result[at]);
    if (!(std::abs(found - expected) <= tolerance * (1 + std::abs(expected))) && wrong++ < 3)
      ADD_FAILURE() << "row " << row << " column " << column << " of matrix " << batch << ": "
                    << found << " instead of " << expected;
  }
  // What lies between the rows is not touched.
  for (int64_t i = 0; i < result.size(); ++i)
    if (i % ldc >= c.n) {
      if (c.beta == 0)
        EXPECT_TRUE(std::isnan(result[i]));
      else
        EXPECT_EQ(result[i], old[i]);
    }
}

template <typename F>
void for_backends(F f) {
  for (MatmulBackend backend :
       {MatmulBackend::automatic, MatmulBackend::eigen, MatmulBackend::onednn}) {
    if (backend == MatmulBackend::onednn && !has_onednn()) continue;
    SCOPED_TRACE(concat("backend ", static_cast<int>(backend)));
    set_matmul_backend(backend);
    f();
  }
  set_matmul_backend(MatmulBackend::automatic);
}

// Sizes at the borders of every path: row vectors, thin and tall ones, and the plain middle.
constexpr int64_t kSizes[][3] = {{1, 1, 1},    {1, 33, 17},    {2, 100, 64}, {4, 65, 130},
                                 {5, 7, 3},    {70, 8, 96},    {70, 96, 8},  {700, 32, 48},
                                 {33, 700, 5}, {16, 24, 3000}, {70, 90, 150}};

template <typename T, typename S>
void check_sizes() {
  for (const auto& [m, n, k] : kSizes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        Case c{.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb};
        check<T, S>(c);
        c.bias = true;
        c.pad = 3;
        check<T, S>(c);
        c.alpha = 0.5;
        c.beta = -2;
        check<T, S>(c);
        c.bias = false;
        c.alpha = 1;
        c.beta = 1;
        check<T, S>(c);
        c.beta = 0;
        c.residual = true;
        check<T, S>(c);
        c.bias = c.gelu = true;
        check<T, S>(c);
        c.residual = false;
        check<T, S>(c);
      }
}

TEST(Matmul, AllTransposesScalesAndPaddingF32) { for_backends(check_sizes<float, float>); }
TEST(Matmul, AllTransposesScalesAndPaddingF64) { for_backends(check_sizes<double, double>); }
TEST(Matmul, Bf16OperandIsWidenedExactly) { for_backends(check_sizes<float, bf16>); }

// More rows than columns and fewer of either than a block has, at depths around a register's.
TEST(Matmul, FewRowsAndFewerColumns) {
  for (int64_t m = 1; m <= 9; ++m)
    for (int64_t n = 1; n <= 9; ++n)
      for (const int64_t k : {1, 7, 16, 65})
        for (const bool tb : {false, true}) {
          const Case c{.m = m, .n = n, .k = k, .transpose_b = tb, .beta = 0.5, .bias = true};
          check<float, float>(c);
          check<float, bf16>(c);
        }
}

template <typename T, typename S>
void check_batches() {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const int shared : {0, 1, 2, 3})
        for (const int64_t m : {1, 6, 40}) {
          Case c{.m = m, .n = 19, .k = 23, .batch = 5, .transpose_a = ta, .transpose_b = tb};
          c.share_a = shared & 1;
          c.share_b = shared & 2;
          check<T, S>(c);
          c.bias = true;
          c.beta = 0.5;
          c.pad = shared;
          check<T, S>(c);
        }
  check<T, S>({.m = 200, .n = 150, .k = 90, .batch = 7});
  check<T, S>({.m = 9, .n = 150, .k = 90, .batch = 300, .share_b = true});
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{9, 15, 8}, {40, 19, 23}})
    check<T, S>({.m = m, .n = n, .k = k, .batch = 3, .bias = true, .residual = true, .gelu = true});
}

TEST(Matmul, BatchesAndSharedOperands) {
  for_backends([] {
    check_batches<float, float>();
    check_batches<double, double>();
    check_batches<float, bf16>();
  });
}

// Rounding A to bf16 costs 2^-9 of every factor; the sum of k terms averages it.
TEST(Matmul, AllowedBf16StaysWithinItsRounding) {
  for (const auto& [m, n, k] : kSizes)
    for (const bool ta : {false, true})
      for (const bool tb : {false, true}) {
        Case c{.m = m, .n = n, .k = k, .transpose_a = ta, .transpose_b = tb};
        c.allow_bf16 = true;
        const double tolerance = 4e-3 * (1 + std::sqrt(static_cast<double>(k)) / 3);
        check<float, bf16>(c, tolerance);
        c.bias = true;
        c.alpha = 0.5;
        c.beta = -2;
        c.pad = 3;
        check<float, bf16>(c, tolerance);
        c.alpha = 1;
        c.beta = 0;
        c.residual = c.gelu = true;
        check<float, bf16>(c, tolerance);
      }
}

TEST(Matmul, EmptySizes) {
  for_backends([] {
    check<float, float>({.m = 3, .n = 4, .k = 0});
    check<float, float>({.m = 3, .n = 4, .k = 0, .beta = 2, .bias = true});
    check<float, bf16>({.m = 3, .n = 4, .k = 0, .bias = true});
    check<float, float>({.m = 3, .n = 4, .k = 0, .bias = true, .residual = true, .gelu = true});
    check<float, bf16>({.m = 3, .n = 4, .k = 0, .residual = true});
    check<float, float>({.m = 0, .n = 4, .k = 2});
    check<float, float>({.m = 3, .n = 0, .k = 2});
    check<float, float>({.m = 3, .n = 4, .k = 2, .batch = 0});
  });
}

TEST(Matmul, SameBitsTwice) {
  for (const auto& [m, n, k] : kSizes)
    for (const bool ta : {false, true}) {
      Buffer<float> a(m * k, 1), b(k * n, 2), first(m * n), second(m * n);
      for (Buffer<float>* y : {&first, &second})
        kernels({}).matmul({.a = a.data(),
                            .b = b.data(),
                            .c = y->data(),
                            .a_type = DType::f32,
                            .b_type = DType::f32,
                            .c_type = DType::f32,
                            .batch = 1,
                            .m = m,
                            .n = n,
                            .k = k,
                            .transpose_a = ta,
                            .transpose_b = true,
                            .lda = ta ? m : k,
                            .ldb = k,
                            .ldc = n,
                            .stride_a = 0,
                            .stride_b = 0,
                            .stride_c = 0,
                            .alpha = 1});
      EXPECT_EQ(first.values(), second.values()) << m << " " << n << " " << k;
    }
}

TEST(Matmul, WrongTypesAreRefused) {
  MatmulArgs args{};
  args.batch = args.m = args.n = args.k = 1;
  args.a_type = DType::bf16;
  args.b_type = DType::bf16;
  EXPECT_THROW(kernels({}).matmul(args), Error);
  args.a_type = DType::f64;
  EXPECT_THROW(kernels({}).matmul(args), Error);
  if (!has_onednn()) {
    EXPECT_THROW(set_matmul_backend(MatmulBackend::onednn), Error);
  }
}

}  // namespace
}  // namespace mullion::test
