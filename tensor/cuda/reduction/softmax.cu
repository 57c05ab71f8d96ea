// Softmax over rows: y = exp(x - max) / sum. Backward: dx = y (g - sum(g y)).
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/reduction/softmax_row.cuh"

namespace mullion::cuda {
namespace {

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    softmax_kernel(const T* x, T* y, int64_t rows, int width) {
  const int64_t row = Shape::group();
  if (row >= rows) return;
  HeldRow<Shape, T> xs(x + row * width);
  const RowSum total = sum_exponentials(xs, width);
  const float factor = 1.0f / total.sum;
  y += row * width;
  Shape::each(width, [&](int k, int at) {
    Floats<Shape::N> out = xs(k, at);
#pragma unroll
    for (float& v : out.v) v = expf(v - total.largest) * factor;
    store(y + at, out);
  });
}

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    softmax_backward_kernel(const T* y, const T* g, T* dx, int64_t rows, int width) {
  constexpr int N = Shape::N;
  const int64_t row = Shape::group();
  if (row >= rows) return;
  HeldRow<Shape, T> ys(y + row * width), gs(g + row * width);
  float product = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>&a = ys.read(k, at), &b = gs.read(k, at);
#pragma unroll
    for (int i = 0; i < N; ++i) product += a.v[i] * b.v[i];
  });
  const float dot = group_sum<Shape::G>(product);
  dx += row * width;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>&a = ys(k, at), &b = gs(k, at);
    Floats<N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.v[i] = a.v[i] * (b.v[i] - dot);
    store(dx + at, out);
  });
}

}  // namespace

void softmax(const SoftmaxArgs& args) {
  dispatch_cuda("softmax", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_row<T>("softmax", args.width, aligned(args.x, args.y), [&](auto shape) {
      using Shape = decltype(shape);
      launch("softmax", softmax_kernel<T, Shape>, Shape::grid(args.rows), Shape::kThreads, 0,
             static_cast<const T*>(args.x), static_cast<T*>(args.y), args.rows, args.width);
    });
  });
}

void softmax_backward(const SoftmaxBackwardArgs& args) {
  dispatch_cuda("softmax_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool vectors = aligned(args.y, args.g, args.dx);
    dispatch_row<T>("softmax_backward", args.width, vectors, [&](auto shape) {
      using Shape = decltype(shape);
      launch("softmax_backward", softmax_backward_kernel<T, Shape>, Shape::grid(args.rows),
             Shape::kThreads, 0, static_cast<const T*>(args.y), static_cast<const T*>(args.g),
             static_cast<T*>(args.dx), args.rows, args.width);
    });
  });
}

}  // namespace mullion::cuda
