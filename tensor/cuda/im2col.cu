// Unfolding of convolution windows into rows, and its transpose as a gather: each pixel adds up its
// row elements in the order of the window, so nothing is added by two threads.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/pixel_threads.cuh"

namespace mullion::cuda {

namespace {

// The threads' "pixels" are the elements (i, j) of the windows, kernel_h * kernel_w for each output
// pixel; their rows are the rows of outputs.
template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads) im2col_kernel(Im2ColArgs a, PixelThreads threads) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const PatchGeometry& g = a.geometry;
  const int kernel_w = static_cast<int>(g.kernel_w);
  const int window = static_cast<int>(g.kernel_h) * kernel_w;
  const int x = p.x / window, tap = p.x % window;
  const int64_t sy = p.y * g.stride - g.pad_h + tap / kernel_w * g.dilation;
  const int64_t sx = x * g.stride - g.pad_w + tap % kernel_w * g.dilation;
  Floats<N> v = {};
  if (sy >= 0 && sy < g.height && sx >= 0 && sx < g.width)
    v = load<N>(static_cast<const T*>(a.x) + ((p.b * g.height + sy) * g.width + sx) * g.channels +
                p.group * N);
  store(static_cast<T*>(a.rows) + (p.row * threads.width + p.x) * g.channels + p.group * N, v);
}

// The output position o whose window element i lies on s, o stride = s + pad - i dilation; or -1.
__device__ __forceinline__ int output_of(int s, int pad, int i, int dilation, int stride,
                                         int outputs) {
  const int at = s + pad - i * dilation;
  if (at < 0 || at % stride != 0) return -1;
  return at / stride < outputs ? at / stride : -1;
}

template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads)
    col2im_kernel(Col2ImArgs a, PixelThreads threads, int out_h, int out_w) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const PatchGeometry& g = a.geometry;
  const int kernel_h = static_cast<int>(g.kernel_h), kernel_w = static_cast<int>(g.kernel_w);
  const int stride = static_cast<int>(g.stride), dilation = static_cast<int>(g.dilation);
  const int pad_h = static_cast<int>(g.pad_h), pad_w = static_cast<int>(g.pad_w);
  const T* rows = static_cast<const T*>(a.rows) + p.group * N;
  Floats<N> sum = {};
  for (int i = 0; i < kernel_h; ++i) {
    const int oy = output_of(p.y, pad_h, i, dilation, stride, out_h);
    for (int j = 0; oy >= 0 && j < kernel_w; ++j) {
      const int ox = output_of(p.x, pad_w, j, dilation, stride, out_w);
      if (ox < 0) continue;
      const int64_t pixel = (p.b * out_h + oy) * out_w + ox;
      const Floats<N> v = load<N>(rows + ((pixel * kernel_h + i) * kernel_w + j) * g.channels);
#pragma unroll
      for (int n = 0; n < N; ++n) sum.v[n] += v.v[n];
    }
  }
  store(static_cast<T*>(a.x) + (p.row * g.width + p.x) * g.channels + p.group * N, sum);
}

// Positions in the padded map are ints.
void check_extent(const char* kernel, const PatchGeometry& g) {
  constexpr int64_t kMost = int64_t{1} << 30;
  for (const int64_t size : {g.height + 2 * g.pad_h, g.width + 2 * g.pad_w, g.stride})
    CHECK_AS(Fault::usage, size <= kMost, kernel, ": a size of ", size, " on cuda, at most ",
             kMost);
}

}  // namespace

void im2col(const Im2ColArgs& a) {
  const PatchGeometry& g = a.geometry;
  check_patches(g);
  check_extent("im2col", g);
  launch_pixels(
      "im2col", a.dtype,
      {g.batch, g.out_height(), g.out_width() * g.kernel_h * g.kernel_w, g.channels},
      aligned(a.x, a.rows), {},
      [](auto zero, auto n) { return im2col_kernel<decltype(zero), n()>; }, a);
}

void col2im(const Col2ImArgs& a) {
  const PatchGeometry& g = a.geometry;
  check_patches(g);
  check_extent("col2im", g);
  launch_pixels(
      "col2im", a.dtype, {g.batch, g.height, g.width, g.channels}, aligned(a.rows, a.x), {},
      [](auto zero, auto n) { return col2im_kernel<decltype(zero), n()>; }, a, g.out_height(),
      g.out_width());
}

}  // namespace mullion::cuda
