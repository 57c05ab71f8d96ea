// The matrix product of the kernel table: batches, a bias, a bf16 operand, on top of gemm().
#include <algorithm>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/pack.h"
#include "tensor/kernel_args/linear.h"
#include "tensor/parallel.h"

namespace mullion::cpu {
namespace {

template <typename T>
void add_bias(const T* bias, T* c, int64_t m, int64_t n, int64_t ldc) {
  parallel_for(m, rows_of_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      map_packs(
          0, n, c + r * ldc, [](Pack<T> x, Pack<T> b) { return x + b; },
          static_cast<const T*>(c + r * ldc), bias);
  });
}

template <typename T>
void scale(T* c, int64_t m, int64_t n, int64_t ldc, T beta) {
  for (int64_t r = 0; r < m; ++r)
    for (int64_t i = 0; i < n; ++i) c[r * ldc + i] = beta == T(0) ? T(0) : beta * c[r * ldc + i];
}

template <typename T>
void one_product(const MatmulArgs& args, const T* b, int64_t ldb, int64_t index) {
  T* c = static_cast<T*>(args.c) + index * args.stride_c;
  if (args.k == 0)
    scale(c, args.m, args.n, args.ldc, static_cast<T>(args.beta));
  else
    gemm(Gemm<T>{args.transpose_a, args.transpose_b, args.m, args.n, args.k,
                 static_cast<T>(args.alpha), static_cast<const T*>(args.a) + index * args.stride_a,
                 args.lda, b, ldb, static_cast<T>(args.beta), c, args.ldc});
  if (args.bias) add_bias(static_cast<const T*>(args.bias), c, args.m, args.n, args.ldc);
}

template <typename T>
void batched(const MatmulArgs& args) {
  const auto* b = static_cast<const T*>(args.b);
  const double work =
      2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
  // Small matrices are handed out whole; a large one is split inside.
  const int64_t grain =
      work < 2e8 ? std::max<int64_t>(1, static_cast<int64_t>(1e6 / work)) : args.batch;
  parallel_for(args.batch, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) one_product(args, b + i * args.stride_b, args.ldb, i);
  });
}

void widened(const MatmulArgs& args) {
  const int64_t rows = args.transpose_b ? args.n : args.k;
  const int64_t columns = args.transpose_b ? args.k : args.n;
  std::vector<float> wide(static_cast<size_t>(rows * columns));
  for (int64_t index = 0; index < args.batch; ++index) {
    const auto* b = static_cast<const bf16*>(args.b) + index * args.stride_b;
    if (index == 0 || args.stride_b != 0)
      parallel_for(rows, rows_of_grain(columns), [&](int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r)
          for (int64_t i = 0; i < columns; ++i)
            wide[static_cast<size_t>(r * columns + i)] = static_cast<float>(b[r * args.ldb + i]);
      });
    one_product<float>(args, wide.data(), columns, index);
  }
}

}  // namespace

void matmul(const MatmulArgs& args) {
  if (args.batch == 0 || args.m == 0 || args.n == 0) return;
  if (args.a_type == DType::f32 && args.b_type == DType::bf16) return widened(args);
  CHECK_AS(Fault::usage, args.a_type == args.b_type, "matmul: operands of ", name_of(args.a_type),
           " and ", name_of(args.b_type));
  dispatch_float("matmul", args.a_type, [&](auto zero) { batched<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
