// RMSNorm (Zhang and Sennrich 2019): y = x r w with r = 1 / sqrt(mean(x^2) + eps). Backward, with
// u = g w: dx = r (u - x r^2 mean(u x)), dw = sum over rows of g x r. Each row is read once; in the
// backward a group of threads keeps its own sum for dw in registers over all of its rows.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/reduction/norm_columns.cuh"
#include "tensor/cuda/reduction/reductions.cuh"

namespace mullion::cuda {
namespace {

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    rms_norm_kernel(const T* x, const float* weight, T* y, float* rstd, int64_t rows, int width,
                    float eps) {
  constexpr int N = Shape::N;
  const int64_t row = Shape::group();
  if (row >= rows) return;
  HeldRow<Shape, T> xs(x + row * width);
  float squares = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& v = xs.read(k, at);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += v.v[i] * v.v[i];
  });
  const float mean = group_sum<Shape::G>(squares) / static_cast<float>(width);
  const float scale = 1.0f / sqrtf(mean + eps);
  if (Shape::lane() == 0) rstd[row] = scale;
  y += row * width;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& v = xs(k, at);
    const Floats<N> w = load<N>(weight + at);
    Floats<N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.v[i] = v.v[i] * scale * w.v[i];
    store(y + at, out);
  });
}

// 768 threads of 80 registers fit on a multiprocessor; a block of 512 may have more.
template <typename Shape>
constexpr int kGradBlocks = blocks_per_multiprocessor(Shape::kThreads, 768);

// Group b takes rows b, b + groups, ...; partials, if any, gets one row of `width` sums a group.
template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kThreads < 512 ? kGradBlocks<Shape> : 1)
    rms_norm_backward_kernel(const T* x, const float* weight, const float* rstd, const T* g, T* dx,
                             float* partials, int64_t rows, int width) {
  constexpr int N = Shape::N;
  Floats<N> dweight[Shape::kHeld] = {};
  for (int64_t row = Shape::group(); row < rows; row += Shape::groups()) {
    HeldRow<Shape, T> xs(x + row * width), gs(g + row * width);
    const float scale = rstd[row];
    float dot = 0;
    Shape::each(width, [&](int k, int at) {
      const Floats<N>&v = xs.read(k, at), &u = gs.read(k, at);
      const Floats<N> w = load<N>(weight + at);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        dot += u.v[i] * v.v[i] * w.v[i];
        if constexpr (Shape::K > 0) dweight[k].v[i] += u.v[i] * v.v[i] * scale;
      }
    });
    if (!dx) continue;
    const float pull = scale * scale * group_sum<Shape::G>(dot) / static_cast<float>(width);
    T* const target = dx + row * width;
    Shape::each(width, [&](int k, int at) {
      const Floats<N>&v = xs(k, at), &u = gs(k, at);
      const Floats<N> w = load<N>(weight + at);
      Floats<N> out;
#pragma unroll
      for (int i = 0; i < N; ++i) out.v[i] = scale * (u.v[i] * w.v[i] - v.v[i] * pull);
      store(target + at, out);
    });
  }
  if constexpr (Shape::K > 0)
    if (partials)
      Shape::each(
          width, [&](int k, int at) { store(partials + Shape::group() * width + at, dweight[k]); });
}

template <typename T>
void forward(const RmsNormArgs& args) {
  const bool vectors = aligned(args.x, args.weight, args.y);
  dispatch_row<T>("rms_norm", args.width, vectors, [&](auto shape) {
    using Shape = decltype(shape);
    launch("rms_norm", rms_norm_kernel<T, Shape>, Shape::grid(args.rows), Shape::kThreads, 0,
           static_cast<const T*>(args.x), static_cast<const float*>(args.weight),
           static_cast<T*>(args.y), static_cast<float*>(args.rstd), args.rows, args.width,
           args.eps);
  });
}

template <typename T>
void backward(const RmsNormBackwardArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* g = static_cast<const T*>(args.g);
  const auto* rstd = static_cast<const float*>(args.rstd);
  auto* dweight = static_cast<float*>(args.dweight);
  const bool vectors = aligned(args.x, args.weight, args.g, args.dx);
  dispatch_row<T>("rms_norm_backward", args.width, vectors, [&](auto shape) {
    using Shape = decltype(shape);
    const auto run = [&](Grid grid, float* partials) {
      launch("rms_norm_backward", rms_norm_backward_kernel<T, Shape>, grid, Shape::kThreads, 0, x,
             static_cast<const float*>(args.weight), rstd, g, static_cast<T*>(args.dx), partials,
             args.rows, args.width);
    };
    if (!dweight) return run(Shape::grid(args.rows), nullptr);
    if constexpr (Shape::K == 0) {
      if (args.dx) run(Shape::grid(args.rows), nullptr);
      sum_norm_columns<T>({x, g, nullptr, rstd, args.rows, args.width}, {{dweight, nullptr}});
    } else {
      const int64_t blocks = blocks_of_sum(args.rows, Shape::kRowsPerBlock, kGradBlocks<Shape>);
      const int64_t groups = blocks * Shape::kRowsPerBlock;
      const Storage memory = scratch(groups * args.width * int64_t{sizeof(float)});
      auto* partials = reinterpret_cast<float*>(memory.data());
      run({blocks}, partials);
      sum_partials(partials, groups, 1, args.width, {{dweight, nullptr}});
    }
  });
}

}  // namespace

void rms_norm(const RmsNormArgs& args) {
  dispatch_cuda("rms_norm", args.dtype, [&](auto zero) { forward<decltype(zero)>(args); });
}

void rms_norm_backward(const RmsNormBackwardArgs& args) {
  dispatch_cuda("rms_norm_backward", args.dtype,
                [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cuda
