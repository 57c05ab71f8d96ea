// Arguments of the elementwise and data-moving kernels. Pointers are to elements of `dtype` unless
// said otherwise; sizes and strides are in elements.
//
// In every file of this folder: a member without a default must be named where a kernel is called
// (.x = ...), and the compiler says where one is not.
#pragma once
#include "tensor/dtype.h"
#include "tensor/host_device.h"
#include "tensor/shape.h"

namespace mullion {

// target[i] = source[i], over a strided index space, with conversion of the type.
struct CopyArgs {
  const void* source;
  void* target;
  DType source_type, target_type;
  Shape shape, source_strides, target_strides;
};

struct FillArgs {  // contiguous
  void* y;
  DType dtype;
  int64_t n;
  double value;
};

// y = f(x), contiguous; f32 and f64. The function is chosen by the slot of the kernel table.
struct UnaryArgs {
  const void* x;
  void* y;
  DType dtype;
  int64_t n;
};
// dx = g * f'(x), with y = f(x) at hand.
struct UnaryBackwardArgs {
  const void *x, *y, *g;
  void* dx;
  DType dtype;
  int64_t n;
};

// y = alpha * x + beta, contiguous.
struct AffineArgs {
  const void* x;
  void* y;
  DType dtype;
  int64_t n;
  double alpha, beta;
};

// y = f(a, b) over a strided index space (stride 0 broadcasts); y is contiguous.
struct BinaryArgs {
  const void *a, *b;
  void* y;
  DType dtype;
  Shape shape, a_strides, b_strides;
};

// y[o, i] = alpha * sum over r of x[o, r, i], contiguous, in a fixed order. `exact`: y is f32 where
// dtype is bf16.
struct SumAxisArgs {
  const void* x;
  void* y;
  DType dtype;
  int64_t outer, reduced, inner;
  double alpha;
  bool exact = false;
};

// y += alpha * x, contiguous.
struct AccumulateArgs {
  const void* x;
  void* y;
  DType dtype;
  int64_t n;
  double alpha;
};

// SwiGLU: y = silu(gate) * up. The backward writes dgate and dup (either may be null).
struct SwigluArgs {
  const void *gate, *up;
  void* y;
  DType dtype;
  int64_t n;
};
struct SwigluBackwardArgs {
  const void *gate, *up, *g;
  void *dgate, *dup;
  DType dtype;
  int64_t n;
};

// y = random numbers number 0 .. n-1 of (seed, stream). Element i takes word i % 4 of Philox
// counter i / 4 (uniform, bernoulli), or words 0..3 of counter i (normal, by Box and Muller in
// double).
struct RandomArgs {
  enum class Kind { uniform, normal, bernoulli } kind;
  void* y;
  DType dtype;  // f32 or f64
  int64_t n;
  double a, b;  // uniform in [a, b); normal: mean a, deviation b; bernoulli: b with probability a
  uint64_t seed, stream;
  // Where given, the stream is read there when the kernel runs, in the memory of y's device.
  const int64_t* stream_at = nullptr;

  MULLION_HD uint64_t stream_now() const {
    return stream_at ? static_cast<uint64_t>(*stream_at) : stream;
  }
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_ELEMENTWISE_KERNELS(KERNEL)         \
  KERNEL(void, copy, CopyArgs)                      \
  KERNEL(void, fill, FillArgs)                      \
  KERNEL(void, affine, AffineArgs)                  \
  KERNEL(void, sum_axis, SumAxisArgs)               \
  KERNEL(void, accumulate, AccumulateArgs)          \
  KERNEL(void, swiglu, SwigluArgs)                  \
  KERNEL(void, swiglu_backward, SwigluBackwardArgs) \
  KERNEL(void, random, RandomArgs)
