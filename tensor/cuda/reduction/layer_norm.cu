// LayerNorm (Ba et al. 2016): y = z w + b with z = (x - mean) r, r = 1 / sqrt(var + eps). The
// variance is taken about the mean, from the registers that hold the row. Backward, with u = g w:
// dx = r (u - mean(u) - z mean(u z)), dw = sum over rows of g z, db = sum over rows of g, the sums
// kept in registers over all rows of a group.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/reduction/norm_columns.cuh"
#include "tensor/cuda/reduction/reductions.cuh"

namespace mullion::cuda {
namespace {

template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads)
    layer_norm_kernel(const T* x, const float* weight, const float* bias, T* y, float* mean_out,
                      float* rstd_out, int64_t rows, int width, float eps) {
  constexpr int N = Shape::N;
  const int64_t row = Shape::group();
  if (row >= rows) return;
  HeldRow<Shape, T> xs(x + row * width);
  float sum = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& v = xs.read(k, at);
#pragma unroll
    for (int i = 0; i < N; ++i) sum += v.v[i];
  });
  const float mean = group_sum<Shape::G>(sum) / static_cast<float>(width);
  float squares = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& v = xs(k, at);
#pragma unroll
    for (int i = 0; i < N; ++i) squares += (v.v[i] - mean) * (v.v[i] - mean);
  });
  const float variance = group_sum<Shape::G>(squares) / static_cast<float>(width);
  const float rstd = 1.0f / sqrtf(variance + eps);
  if (Shape::lane() == 0) {
    mean_out[row] = mean;
    rstd_out[row] = rstd;
  }
  y += row * width;
  Shape::each(width, [&](int k, int at) {
    const Floats<N>& v = xs(k, at);
    const Floats<N> w = load<N>(weight + at), b = load<N>(bias + at);
    Floats<N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) out.v[i] = (v.v[i] - mean) * rstd * w.v[i] + b.v[i];
    store(y + at, out);
  });
}

// 768 threads of 80 registers fit on a multiprocessor, or 512 of 128: those that keep x and g in
// f32 need more than 80. A block of 512 may have more.
template <typename T, typename Shape>
constexpr int kGradBlocks = blocks_per_multiprocessor(Shape::kThreads,
                                                      HeldRow<Shape, T>::kPacked ? 768 : 512);

// Group b takes rows b, b + groups, ...; partials, if any, gets two rows of `width` sums a group:
// for the weight and for the bias.
template <typename T, typename Shape>
__global__ void __launch_bounds__(Shape::kThreads,
                                  Shape::kThreads < 512 ? kGradBlocks<T, Shape> : 1)
    layer_norm_backward_kernel(const T* x, const float* weight, const float* means,
                               const float* rstds, const T* g, T* dx, float* partials, int64_t rows,
                               int width) {
  constexpr int N = Shape::N;
  Floats<N> dweight[Shape::kHeld] = {}, dbias[Shape::kHeld] = {};
  for (int64_t row = Shape::group(); row < rows; row += Shape::groups()) {
    HeldRow<Shape, T> xs(x + row * width), gs(g + row * width);
    const float mean = means[row], rstd = rstds[row];
    float sum_u = 0, sum_uz = 0;
    Shape::each(width, [&](int k, int at) {
      const Floats<N>&v = xs.read(k, at), &d = gs.read(k, at);
      const Floats<N> w = load<N>(weight + at);
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float z = (v.v[i] - mean) * rstd;
        sum_u += d.v[i] * w.v[i];
        sum_uz += d.v[i] * w.v[i] * z;
        if constexpr (Shape::K > 0) {
          dweight[k].v[i] += d.v[i] * z;
          dbias[k].v[i] += d.v[i];
        }
      }
    });
    if (!dx) continue;
    const float mean_u = group_sum<Shape::G>(sum_u) / static_cast<float>(width);
    const float mean_uz = group_sum<Shape::G>(sum_uz) / static_cast<float>(width);
    T* const target = dx + row * width;
    Shape::each(width, [&](int k, int at) {
      const Floats<N>&v = xs(k, at), &d = gs(k, at);
      const Floats<N> w = load<N>(weight + at);
      Floats<N> out;
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const float z = (v.v[i] - mean) * rstd;
        out.v[i] = rstd * (d.v[i] * w.v[i] - mean_u - z * mean_uz);
      }
      store(target + at, out);
    });
  }
  if constexpr (Shape::K > 0)
    if (partials)
      Shape::each(width, [&](int k, int at) {
        float* const sums = partials + 2 * Shape::group() * width + at;
        store(sums, dweight[k]);
        store(sums + width, dbias[k]);
      });
}

template <typename T>
void forward(const LayerNormArgs& args) {
  const bool vectors = aligned(args.x, args.weight, args.bias, args.y);
  dispatch_row<T>("layer_norm", args.width, vectors, [&](auto shape) {
    using Shape = decltype(shape);
    launch("layer_norm", layer_norm_kernel<T, Shape>, Shape::grid(args.rows), Shape::kThreads, 0,
           static_cast<const T*>(args.x), static_cast<const float*>(args.weight),
           static_cast<const float*>(args.bias), static_cast<T*>(args.y),
           static_cast<float*>(args.mean), static_cast<float*>(args.rstd), args.rows, args.width,
           args.eps);
  });
}

template <typename T>
void backward(const LayerNormBackwardArgs& args) {
  const auto* x = static_cast<const T*>(args.x);
  const auto* g = static_cast<const T*>(args.g);
  const auto* mean = static_cast<const float*>(args.mean);
  const auto* rstd = static_cast<const float*>(args.rstd);
  const Totals out{{static_cast<float*>(args.dweight), static_cast<float*>(args.dbias)}};
  const bool vectors = aligned(args.x, args.weight, args.g, args.dx);
  dispatch_row<T>("layer_norm_backward", args.width, vectors, [&](auto shape) {
    using Shape = decltype(shape);
    const auto run = [&](Grid grid, float* partials) {
      launch("layer_norm_backward", layer_norm_backward_kernel<T, Shape>, grid, Shape::kThreads, 0,
             x, static_cast<const float*>(args.weight), mean, rstd, g, static_cast<T*>(args.dx),
             partials, args.rows, args.width);
    };
    if (!args.dweight && !args.dbias) return run(Shape::grid(args.rows), nullptr);
    if constexpr (Shape::K == 0) {
      if (args.dx) run(Shape::grid(args.rows), nullptr);
      sum_norm_columns<T>({x, g, mean, rstd, args.rows, args.width}, out);
    } else {
      const int64_t blocks = blocks_of_sum(args.rows, Shape::kRowsPerBlock, kGradBlocks<T, Shape>);
      const int64_t groups = blocks * Shape::kRowsPerBlock;
      const Storage memory = scratch(2 * groups * args.width * int64_t{sizeof(float)});
      auto* partials = reinterpret_cast<float*>(memory.data());
      run({blocks}, partials);
      sum_partials(partials, groups, 2, args.width, out);
    }
  });
}

}  // namespace

void layer_norm(const LayerNormArgs& args) {
  dispatch_cuda("layer_norm", args.dtype, [&](auto zero) { forward<decltype(zero)>(args); });
}

void layer_norm_backward(const LayerNormBackwardArgs& args) {
  dispatch_cuda("layer_norm_backward", args.dtype,
                [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cuda
