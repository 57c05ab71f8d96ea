// Cross-entropy of rows of logits against a class or a distribution, with the gradient
// softmax - target written in the same visit. A vocabulary's row is read once for the sum and once,
// from the second-level cache, for the gradient.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/reduction/softmax_row.cuh"

namespace mullion::cuda {
namespace {

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    cross_entropy_kernel(T* logits, const int64_t* targets, float* loss, bool write_grad,
                         int64_t rows, int width) {
  constexpr int N = Shape::N;
  const int64_t row = Shape::group();
  if (row >= rows) return;
  logits += row * width;
  const int64_t target = targets[row];
  if (target < 0) {  // ignored; the same for all threads of the row
    if (Shape::lane() == 0) loss[row] = 0;
    if (write_grad) Shape::each(width, [&](int, int at) { store(logits + at, Floats<N>{}); });
    return;
  }
  const float at_target = widen(logits[target]);
  HeldRow<Shape, T> xs(logits);
  const RowSum total = sum_exponentials(xs, width);
  __syncwarp();  // shuffles alone would let a lane read the target after another's write
  if (Shape::lane() == 0) loss[row] = total.logsumexp() - at_target;
  if (!write_grad) return;
  const float factor = 1.0f / total.sum;
  Shape::each(width, [&](int k, int at) {
    Floats<N> out = xs(k, at);
#pragma unroll
    for (int i = 0; i < N; ++i)
      out.v[i] = expf(out.v[i] - total.largest) * factor - (at + i == target ? 1.0f : 0.0f);
    store(logits + at, out);
  });
}

// sum(p) logsumexp(x) - sum(p x) = sum(p (logsumexp(x) - x)), which does not cancel.
template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    soft_cross_entropy_kernel(const T* logits, const float* probabilities, float* loss, T* dlogits,
                              int64_t rows, int width) {
  constexpr int N = Shape::N;
  const int64_t row = Shape::group();
  if (row >= rows) return;
  HeldRow<Shape, T> xs(logits + row * width);
  const RowSum total = sum_exponentials(xs, width);
  probabilities += row * width;
  const float logsumexp = total.logsumexp();
  float mass = 0, sum = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& x = xs(k, at);
    const Floats<N> p = load<N>(probabilities + at);
#pragma unroll
    for (int i = 0; i < N; ++i) {
      mass += p.v[i];
      sum += p.v[i] * (logsumexp - x.v[i]);
    }
  });
  sum = group_sum<Shape::G>(sum);
  if (Shape::lane() == 0) loss[row] = sum;
  if (!dlogits) return;
  const float factor = group_sum<Shape::G>(mass) / total.sum;
  dlogits += row * width;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& x = xs(k, at);
    const Floats<N> p = load<N>(probabilities + at);
    Floats<N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.v[i] = expf(x.v[i] - total.largest) * factor - p.v[i];
    store(dlogits + at, out);
  });
}

}  // namespace

void cross_entropy(const CrossEntropyArgs& args) {
  dispatch_cuda("cross_entropy", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_row<T>("cross_entropy", args.width, aligned(args.logits), [&](auto shape) {
      using Shape = decltype(shape);
      launch("cross_entropy", cross_entropy_kernel<T, Shape>, Shape::grid(args.rows),
             Shape::kThreads, 0, static_cast<T*>(args.logits), args.targets,
             static_cast<float*>(args.loss), args.write_grad, args.rows, args.width);
    });
  });
}

void soft_cross_entropy(const SoftCrossEntropyArgs& args) {
  dispatch_cuda("soft_cross_entropy", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    const bool vectors = aligned(args.logits, args.probabilities, args.dlogits);
    dispatch_row<T>("soft_cross_entropy", args.width, vectors, [&](auto shape) {
      using Shape = decltype(shape);
      launch("soft_cross_entropy", soft_cross_entropy_kernel<T, Shape>, Shape::grid(args.rows),
             Shape::kThreads, 0, static_cast<const T*>(args.logits),
             static_cast<const float*>(args.probabilities), static_cast<float*>(args.loss),
             static_cast<T*>(args.dlogits), args.rows, args.width);
    });
  });
}

}  // namespace mullion::cuda
