// Matrix products on the device against the CPU's: in f32, and in bf16 against f32 on the rounded
// inputs.
#include <gtest/gtest.h>

#include "tensor/kernel_args/linear.h"
#include "tests/cuda/device_array.h"
#include "tests/cuda/device_runs.h"

namespace mullion::test {
namespace {

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
  for (const int64_t m : {9, 33}) {
    check({.a = wide,
           .b = wide,
           .c = wide,
           .batch = 3,
           .m = m,
           .gap = 3,
           .skew = 1,
           .residual = true});
    check({.a = narrow,
           .b = narrow,
           .c = narrow,
           .batch = 3,
           .m = m,
           .gelu = true,
           .keep_before_gelu = true});
  }
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
