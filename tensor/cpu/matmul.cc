// The matrix product of the kernel table. Thin products (row vectors, few columns) go to
// dot_products(), a bf16 operand to oneDNN's bf16 product where allowed and else through blocks
// widened within the second-level cache, everything else to gemm(). Batches of small matrices are
// split over the threads, large matrices inside.
#include <algorithm>

#include "tensor/cpu/bf16_product.h"
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/dot_products.h"
#include "tensor/cpu/gemm.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/matmul.h"
#include "tensor/cpu/vector_math.h"
#include "tensor/cpu/widened_panels.h"
#include "tensor/elementwise.h"
#include "tensor/parallel.h"
#include "tensor/scratch.h"

namespace mullion::cpu {
namespace {

constexpr int kScratchSlot = 6;
constexpr int64_t kThin = 8;               // rows of A that are read from cache for each of B
constexpr int64_t kFewColumns = 16;        // columns of a LoRA projection
constexpr int64_t kCacheFloats = 1 << 16;  // floats that share the second-level cache with others

// What happens to C after the product, in one pass over it.
template <typename T>
struct Epilogue {
  const T *bias, *residual;
  bool gelu;
  T* before_gelu;

  bool is_empty() const { return !bias && !residual && !gelu; }
  Epilogue without_bias() const { return {nullptr, residual, gelu, before_gelu}; }
  // That of the rows of C from m0 and the columns from n0 on.
  Epilogue from(int64_t m0, int64_t n0, int64_t ldc) const {
    const int64_t at = m0 * ldc + n0;
    return {bias ? bias + n0 : nullptr, residual ? residual + at : nullptr, gelu,
            before_gelu ? before_gelu + at : nullptr};
  }
};

template <typename T>
void finish_row(const Epilogue<T>& e, T* c, int64_t n) {
  using P = Pack<T>;
  const T* x = c;
  if (e.bias && e.residual)
    map_packs(
        0, n, c, [](P v, P b, P r) { return v + b + r; }, x, e.bias, e.residual);
  else if (e.bias || e.residual)
    map_packs(
        0, n, c, [](P v, P b) { return v + b; }, x, e.bias ? e.bias : e.residual);
  if (!e.gelu) return;
  if (e.before_gelu) std::copy(x, x + n, e.before_gelu);
  map_packs(
      0, n, c, [](P v) { return Gelu::value(v); }, x);
}

template <typename T>
void finish(const Epilogue<T>& e, T* c, int64_t m, int64_t n, int64_t ldc) {
  if (e.is_empty()) return;
  parallel_for(m, rows_of_grain(n, e.gelu ? kMathGrain : kGrain), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) finish_row(e.from(r, 0, ldc), c + r * ldc, n);
  });
}

// C = beta * C + bias: the product where the inner size is 0.
template <typename T>
void without_product(const Gemm<T>& p, const T* bias) {
  for (int64_t r = 0; r < p.m; ++r)
    for (int64_t i = 0; i < p.n; ++i) {
      T& c = p.c[r * p.ldc + i];
      c = (p.beta == T(0) ? T(0) : p.beta * c) + (bias ? bias[i] : T(0));
    }
}

// The transpose of a stored matrix of rows x columns, without padding.
void transpose(const float* x, int64_t ld, int64_t rows, int64_t columns, float* y) {
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t i = 0; i < columns; ++i) y[i * rows + r] = x[r * ld + i];
}

// Few columns and A stored transposed (the gradient of a LoRA factor): C^T = op(B)^T op(A)^T is a
// product of few rows, which the libraries do well; its small result is transposed into C.
void transposed_product(const Gemm<float>& p, const float* bias) {
  float* ct = thread_scratch(static_cast<size_t>(p.m * p.n), kScratchSlot);
  gemm(Gemm<float>{!p.transpose_b, !p.transpose_a, p.n, p.m, p.k, p.alpha, p.b, p.ldb, p.a, p.lda,
                   0, ct, p.m});
  for (int64_t r = 0; r < p.m; ++r)
    for (int64_t i = 0; i < p.n; ++i) {
      float& c = p.c[r * p.ldc + i];
      const float value = ct[i * p.m + r] + (bias ? bias[i] : 0);
      c = p.beta == 0 ? value : value + p.beta * c;
    }
}

// Takes the product if it is a thin one.
bool thin_product(const Gemm<float>& p, const float* bias) {
  if (matmul_backend() != MatmulBackend::automatic) return false;
  if (p.transpose_a) {
    if (p.n > kFewColumns || p.m < 2 * p.n || p.m * p.n > kCacheFloats) return false;
    transposed_product(p, bias);
    return true;
  }
  const bool few_columns = p.n <= kFewColumns && p.k >= 64;
  if (p.m > kThin && !few_columns) return false;
  const float* b = p.b;
  int64_t ldb = p.ldb;
  if (!p.transpose_b) {
    if (p.k * p.n > kCacheFloats || p.m < p.n) return false;
    float* bt = thread_scratch(static_cast<size_t>(p.k * p.n), kScratchSlot);
    transpose(b, ldb, p.k, p.n, bt);
    b = bt;
    ldb = p.k;
  }
  dot_products(
      DotProducts<float>{p.m, p.n, p.k, p.a, p.lda, b, ldb, p.c, p.ldc, p.alpha, p.beta, bias});
  return true;
}
bool thin_product(const Gemm<double>&, const double*) { return false; }

template <typename T>
void product(const Gemm<T>& p, const Epilogue<T>& epilogue) {
  if (p.k == 0 || thin_product(p, epilogue.bias)) {
    if (p.k == 0) without_product(p, epilogue.bias);
    return finish(epilogue.without_bias(), p.c, p.m, p.n, p.ldc);
  }
  // A tall product goes in blocks of rows, so that its epilogue finds the block in cache.
  const int64_t rows = std::max<int64_t>(64, kCacheFloats / p.n);
  if (!epilogue.is_empty() && !p.transpose_a && p.k * p.n <= kCacheFloats / 4 && p.m >= 4 * rows) {
    const int64_t blocks = (p.m + rows - 1) / rows;
    return parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin * rows; r < std::min(p.m, end * rows); r += rows) {
        Gemm<T> part = p;
        part.m = std::min(rows, p.m - r);
        part.a += r * p.lda;
        part.c += r * p.ldc;
        gemm(part);
        finish(epilogue.from(r, 0, p.ldc), part.c, part.m, p.n, p.ldc);
      }
    });
  }
  gemm(p);
  finish(epilogue, p.c, p.m, p.n, p.ldc);
}

// B in bf16, exactly.
void widened_product(const Gemm<float>& p, const bf16* b, const Epilogue<float>& epilogue) {
  const bool thin = p.m <= kThin && p.transpose_b && !p.transpose_a;
  if (p.k == 0)
    without_product(p, epilogue.bias);
  else if (thin)
    dot_products(DotProducts<bf16>{p.m, p.n, p.k, p.a, p.lda, b, p.ldb, p.c, p.ldc, p.alpha, p.beta,
                                   epilogue.bias});
  if (p.k == 0 || thin) return finish(epilogue.without_bias(), p.c, p.m, p.n, p.ldc);
  multiply_widened(
      p, 1,
      [&](int64_t row, int64_t column, int64_t length, float* target) {
        const bf16* source = b + row * p.ldb + column;
        for (int64_t i = 0; i < length; ++i) target[i] = static_cast<float>(source[i]);
      },
      [&](int64_t n0, int64_t columns) {
        finish(epilogue.from(0, n0, p.ldc), p.c + n0, p.m, columns, p.ldc);
      });
}

template <typename T>
Gemm<T> matrix_of(const MatmulArgs& args, int64_t index) {
  const bool same_type = args.a_type == args.b_type;
  return {args.transpose_a,
          args.transpose_b,
          args.m,
          args.n,
          args.k,
          static_cast<T>(args.alpha),
          static_cast<const T*>(args.a) + index * args.stride_a,
          args.lda,
          same_type ? static_cast<const T*>(args.b) + index * args.stride_b : nullptr,
          args.ldb,
          static_cast<T>(args.beta),
          static_cast<T*>(args.c) + index * args.stride_c,
          args.ldc};
}

template <typename T>
Epilogue<T> epilogue_of(const MatmulArgs& args, int64_t index) {
  const Epilogue<T> first{static_cast<const T*>(args.bias), static_cast<const T*>(args.residual),
                          args.gelu, static_cast<T*>(args.before_gelu)};
  return first.from(index, 0, args.stride_c);
}

// f(index) for every matrix: small ones handed out whole if that occupies all threads, others split
// inside.
template <typename F>
void for_batch(const MatmulArgs& args, F f) {
  const double work =
      2.0 * static_cast<double>(args.m) * static_cast<double>(args.n) * static_cast<double>(args.k);
  const bool whole = work < 2e8 && args.batch >= num_threads();
  const int64_t grain = whole ? static_cast<int64_t>(1 + 1e6 / (work + 1)) : args.batch;
  parallel_for(args.batch, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) f(i);
  });
}

void with_bf16(const MatmulArgs& args) {
  // oneDNN applies alpha to the bias as well; there the exact path serves.
  const bool rounds = args.allow_bf16 && args.m > kThin && args.k > 0 &&
                      (!args.bias || args.alpha == 1) && has_bf16_products() &&
                      matmul_backend() != MatmulBackend::eigen;
  for_batch(args, [&](int64_t index) {
    const auto p = matrix_of<float>(args, index);
    const bf16* b = static_cast<const bf16*>(args.b) + index * args.stride_b;
    const auto epilogue = epilogue_of<float>(args, index);
    if (!rounds) return widened_product(p, b, epilogue);
    bf16_product(args, p.a, b, p.c);  // adds the bias
    finish(epilogue.without_bias(), p.c, p.m, p.n, p.ldc);
  });
}

}  // namespace

void matmul(const MatmulArgs& given) {
  if (given.batch == 0 || given.m == 0 || given.n == 0) return;
  const MatmulArgs args = folded(given);
  DCHECK(!args.residual || args.beta == 0);
  CHECK_AS(Fault::usage, args.c_type == args.a_type, "matmul: a result of ", name_of(args.c_type),
           " from ", name_of(args.a_type), " on the cpu");
  if (args.a_type == DType::f32 && args.b_type == DType::bf16) return with_bf16(args);
  CHECK_AS(Fault::usage, args.a_type == args.b_type, "matmul: operands of ", name_of(args.a_type),
           " and ", name_of(args.b_type));
  dispatch_float("matmul", args.a_type, [&](auto zero) {
    using T = decltype(zero);
    for_batch(args, [&](int64_t index) {
      product(matrix_of<T>(args, index), epilogue_of<T>(args, index));
    });
  });
}

}  // namespace mullion::cpu
