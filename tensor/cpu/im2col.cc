// Unfolding of convolution windows into rows, and its transpose. A convolution is then one matrix
// product; with stride = kernel every input element appears once, so nothing is blown up.
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"

namespace mullion {

void check_patches(const PatchGeometry& g) {
  CHECK_AS(Fault::usage,
           g.batch >= 0 && g.height >= 1 && g.width >= 1 && g.channels >= 1 && g.kernel_h >= 1 &&
               g.kernel_w >= 1 && g.stride >= 1 && g.pad_h >= 0 && g.pad_w >= 0 && g.dilation >= 1,
           "conv2d: map [", g.batch, ", ", g.height, ", ", g.width, ", ", g.channels, "], kernel ",
           g.kernel_h, "x", g.kernel_w, ", stride ", g.stride, ", padding ", g.pad_h, ", ", g.pad_w,
           ", dilation ", g.dilation);
  CHECK_AS(Fault::usage,
           g.dilation * (g.kernel_h - 1) < g.height + 2 * g.pad_h &&
               g.dilation * (g.kernel_w - 1) < g.width + 2 * g.pad_w,
           "conv2d: kernel ", g.kernel_h, "x", g.kernel_w, " with dilation ", g.dilation,
           " does not fit a map of ", g.height, "x", g.width, " padded by ", g.pad_h, ", ",
           g.pad_w);
}

namespace cpu {

namespace {

template <typename T>
void unfold(const Im2ColArgs& a) {
  const PatchGeometry& g = a.geometry;
  const int64_t out_h = g.out_height(), out_w = g.out_width(), c = g.channels;
  parallel_for(g.batch * out_h, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* image = static_cast<const T*>(a.x) + row / out_h * g.height * g.width * c;
      T* out = static_cast<T*>(a.rows) + row * out_w * g.row_size();
      for (int64_t x = 0; x < out_w; ++x)
        for (int64_t i = 0; i < g.kernel_h; ++i)
          for (int64_t j = 0; j < g.kernel_w; ++j, out += c) {
            const int64_t sy = row % out_h * g.stride - g.pad_h + i * g.dilation;
            const int64_t sx = x * g.stride - g.pad_w + j * g.dilation;
            if (sy < 0 || sy >= g.height || sx < 0 || sx >= g.width)
              std::fill_n(out, c, T(0));
            else
              std::copy_n(image + (sy * g.width + sx) * c, c, out);
          }
    }
  });
}

// The output positions o whose window element i lies on s: o stride = s + pad - i dilation.
int64_t output_of(int64_t s, int64_t pad, int64_t i, const PatchGeometry& g, int64_t outputs) {
  const int64_t at = s + pad - i * g.dilation;
  return at < 0 || at % g.stride != 0 || at / g.stride >= outputs ? -1 : at / g.stride;
}

template <typename T>
void fold(const Col2ImArgs& a) {
  const PatchGeometry& g = a.geometry;
  const int64_t out_h = g.out_height(), out_w = g.out_width(), c = g.channels;
  parallel_for(g.batch * g.height, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* rows = static_cast<const T*>(a.rows) + row / g.height * out_h * out_w * g.row_size();
      for (int64_t x = 0; x < g.width; ++x) {
        T* pixel = static_cast<T*>(a.x) + (row * g.width + x) * c;
        std::fill_n(pixel, c, T(0));
        for (int64_t i = 0; i < g.kernel_h; ++i) {
          const int64_t oy = output_of(row % g.height, g.pad_h, i, g, out_h);
          for (int64_t j = 0; oy >= 0 && j < g.kernel_w; ++j) {
            const int64_t ox = output_of(x, g.pad_w, j, g, out_w);
            if (ox < 0) continue;
            const T* from =
                rows + ((oy * out_w + ox) * g.kernel_h * g.kernel_w + i * g.kernel_w + j) * c;
            for (int64_t n = 0; n < c; ++n) pixel[n] += from[n];
          }
        }
      }
    }
  });
}

}  // namespace

void im2col(const Im2ColArgs& a) {
  check_patches(a.geometry);
  dispatch_float("im2col", a.dtype, [&](auto zero) { unfold<decltype(zero)>(a); });
}

void col2im(const Col2ImArgs& a) {
  check_patches(a.geometry);
  dispatch_float("col2im", a.dtype, [&](auto zero) { fold<decltype(zero)>(a); });
}

}  // namespace cpu
}  // namespace mullion
