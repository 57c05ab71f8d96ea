// Matrix products: what lies around those of the library (library_product.h). Operands whose type
// does not suit the product are cast into scratch memory first. Bias and residual are part of the
// product. So is GELU in bf16: the library has its tanh form alone, whose 5e-4 that type does not
// see beside values of 1; in f32 it is a pass of its own, by the error function.
#include <algorithm>

#include "tensor/cuda/dispatch.h"
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/matmul/library_product.h"
#include "tensor/cuda/runtime/launch.h"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {
namespace {

constexpr int64_t kMostWidened = int64_t{256} << 20;  // bytes of B in f32 at a time

// `matrices` stored matrices of rows x columns in another type, without gaps.
void cast_matrices(const void* x, DType from, int64_t matrices, int64_t rows, int64_t columns,
                   int64_t ld, int64_t stride, void* y, DType to) {
  copy({.source = x,
        .target = y,
        .source_type = from,
        .target_type = to,
        .shape = Shape{matrices, rows, columns},
        .source_strides = Shape{stride, ld, 1},
        .target_strides = Shape{rows * columns, columns, 1}});
}

// A or B among the arguments, as it is stored.
struct Operand {
  const void*& data;
  DType& type;
  int64_t &ld, &stride;
  int64_t rows, columns;
};
Operand a_of(MatmulArgs& p) {
  const bool t = p.transpose_a;
  return {p.a, p.a_type, p.lda, p.stride_a, t ? p.k : p.m, t ? p.m : p.k};
}
Operand b_of(MatmulArgs& p) {
  const bool t = p.transpose_b;
  return {p.b, p.b_type, p.ldb, p.stride_b, t ? p.n : p.k, t ? p.k : p.n};
}

// f(args) with an operand in another type.
template <typename F>
void with_cast(Operand (*operand)(MatmulArgs&), MatmulArgs args, DType type, F f) {
  const Operand x = operand(args);
  const int64_t matrices = x.stride == 0 ? 1 : args.batch;
  const Storage memory = scratch(matrices * x.rows * x.columns * size_of(type));
  cast_matrices(x.data, x.type, matrices, x.rows, x.columns, x.ld, x.stride, memory.data(), type);
  x.data = memory.data();
  x.type = type;
  x.ld = x.columns;
  x.stride = matrices == 1 ? 0 : x.rows * x.columns;
  f(args);
}

// C = beta * C + bias: the product where the inner size is 0.
template <typename T>
__global__ void without_product_kernel(T* c, const T* bias, float beta, int64_t m, int64_t n,
                                       int64_t ldc, int64_t stride, int64_t batch) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= m * n) return;
  const float more = bias ? widen(bias[i % n]) : 0.0f;
  for (int64_t matrix = blockIdx.y; matrix < batch; matrix += gridDim.y) {
    T& element = c[matrix * stride + i / n * ldc + i % n];
    element = narrow<T>((beta == 0 ? 0.0f : beta * widen(element)) + more);
  }
}
void without_product(MatmulArgs p) {
  constexpr int kThreads = 256;
  if (p.residual) {
    copy({.source = p.residual,
          .target = p.c,
          .source_type = p.c_type,
          .target_type = p.c_type,
          .shape = Shape{p.batch, p.m, p.n},
          .source_strides = Shape{p.stride_c, p.ldc, 1},
          .target_strides = Shape{p.stride_c, p.ldc, 1}});
    p.beta = 1;
  }
  dispatch_cuda("matmul", p.c_type, [&](auto tag) {
    using T = decltype(tag);
    launch("matmul", without_product_kernel<T>,
           Grid{blocks_for(p.m * p.n, kThreads), std::min(p.batch, kMaxGridYZ)}, kThreads, 0,
           static_cast<T*>(p.c), static_cast<const T*>(p.bias), static_cast<float>(p.beta), p.m,
           p.n, p.ldc, p.stride_c, p.batch);
  });
}

// GELU by a pass of its own, after what else is asked for.
void with_gelu_after(void (*multiply)(const MatmulArgs&), const MatmulArgs& args) {
  CHECK(args.ldc == args.n && (args.batch == 1 || args.stride_c == args.m * args.n),
        "matmul: GELU of a result with gaps between its rows");
  MatmulArgs p = args;
  p.gelu = false;
  p.before_gelu = nullptr;
  if (args.before_gelu) p.c = args.before_gelu;
  multiply(p);
  unary<Gelu>({.x = p.c, .y = args.c, .dtype = args.c_type, .n = args.batch * args.m * args.n});
}

// By the library, all at once if it can. Where it cannot, GELU comes after the product, and what is
// added lies in C before it, which rounds it to C's type once more.
void product(const MatmulArgs& args) {
  if (library_product(args)) return;
  if (args.gelu) return with_gelu_after(product, args);
  without_product(args);
  MatmulArgs p = args;
  p.bias = nullptr;
  p.residual = nullptr;
  p.beta = 1;
  library_product(p);
}

// A large frozen B is widened some columns of op(B) at a time.
void widened(const MatmulArgs& args) {
  const int64_t column = args.k * int64_t{sizeof(float)};
  const int64_t most = std::max<int64_t>(4, kMostWidened / column / 256 * 256);
  const int64_t step = args.batch == 1 ? std::min(args.n, most) : args.n;
  for (int64_t first = 0; first < args.n; first += step) {
    MatmulArgs p = args;
    p.n = std::min(step, args.n - first);
    const int64_t offset = args.transpose_b ? first * args.ldb : first;
    p.b = static_cast<const Bf16*>(args.b) + offset;
    p.c = static_cast<float*>(args.c) + first;
    if (args.bias) p.bias = static_cast<const float*>(args.bias) + first;
    if (args.residual) p.residual = static_cast<const float*>(args.residual) + first;
    with_cast(b_of, p, DType::f32, product);
  }
}

// The bias in the result's type and at a multiple of 16 bytes, which the library's kernels take for
// granted: unlike the matrices' there is no preference that would tell it otherwise.
template <typename F>
void with_bias_of_c(const MatmulArgs& args, F f) {
  const bool aligned = reinterpret_cast<uintptr_t>(args.bias) % 16 == 0;
  if (!args.bias || (args.c_type == DType::f32 && aligned)) return f(args);
  const Storage memory = scratch(args.n * size_of(args.c_type));
  cast_matrices(args.bias, DType::f32, 1, 1, args.n, args.n, 0, memory.data(), args.c_type);
  MatmulArgs p = args;
  p.bias = memory.data();
  f(p);
}

// What the library asks of an epilogue by GELU that keeps its input: lines of a multiple of 8
// elements, at a multiple of 16 bytes.
bool is_gelu_of_product(const MatmulArgs& p) {
  return p.c_type == DType::bf16 && p.k > 0 && p.batch == 1 && p.ldc % 8 == 0 &&
         reinterpret_cast<uintptr_t>(p.before_gelu) % 16 == 0;
}

}  // namespace

void matmul(const MatmulArgs& given) {
  if (given.batch == 0 || given.m == 0 || given.n == 0) return;
  const MatmulArgs args = folded(given);
  for (const DType type : {args.a_type, args.b_type, args.c_type})
    dispatch_cuda("matmul", type, [](auto) {});
  CHECK_AS(Fault::usage, args.a_type == DType::bf16 || args.c_type == DType::f32,
           "matmul: a result of bf16 from f32 on cuda");
  CHECK_AS(Fault::usage, args.batch <= INT32_MAX, "matmul: ", args.batch,
           " products at once are too many for cuda (2147483647)");
  DCHECK(!args.residual || args.beta == 0);
  if (args.gelu && !is_gelu_of_product(args)) return with_gelu_after(matmul, args);
  with_bias_of_c(args, [](const MatmulArgs& p) {
    const bool wide_a = p.a_type == DType::f32, wide_b = p.b_type == DType::f32;
    if (p.k == 0) return without_product(p);
    if (wide_a == wide_b) return product(p);
    if (!wide_a) return with_cast(b_of, p, DType::bf16, product);
    p.allow_bf16 ? with_cast(a_of, p, DType::bf16, product) : widened(p);
  });
}

}  // namespace mullion::cuda
