// Depthwise 3x3 convolution in NHWC: nine multiply-adds over the channels of each pixel. The weight
// is turned to (9, C) first, so that every inner loop is contiguous. The gradient of the weight is
// summed within fixed slices of rows and the slices are added in order: the same bits every time.
#include <algorithm>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kTaps = 9;

template <typename T>
std::vector<T> taps_first(const T* weight, int64_t channels) {
  std::vector<T> turned(static_cast<size_t>(kTaps * channels));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < kTaps; ++t)
      turned[static_cast<size_t>(t * channels + c)] = weight[c * kTaps + t];
  return turned;
}

// Calls f(t, source pixel offset) for the taps of pixel (y, x) inside the map; `sign` -1 walks the
// transposed convolution.
template <typename F>
void each_tap(int64_t y, int64_t x, int64_t height, int64_t width, int64_t sign, const F& f) {
  for (int64_t t = 0; t < kTaps; ++t) {
    const int64_t sy = y + sign * (t / 3 - 1), sx = x + sign * (t % 3 - 1);
    if (sy >= 0 && sy < height && sx >= 0 && sx < width) f(t, sy * width + sx);
  }
}

// out(r, c) = start(c) + sum over t of weight(t, c) in(r + sign d_t, c).
template <typename T>
void convolve(const DepthwiseConv3Args& a, int64_t sign) {
  const MapSize& m = a.map;
  const int64_t c = m.channels, image = m.height * m.width * c;
  const std::vector<T> weight = taps_first(static_cast<const T*>(a.weight), c);
  const T* bias = static_cast<const T*>(a.bias);
  const int64_t grain = std::max<int64_t>(1, 8192 / std::max<int64_t>(1, m.width * c));
  parallel_for(m.batch * m.height, grain, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* in = static_cast<const T*>(a.x) + row / m.height * image;
      for (int64_t x = 0; x < m.width; ++x) {
        T* out = static_cast<T*>(a.y) + (row * m.width + x) * c;
        if (bias)
          std::copy_n(bias, c, out);
        else
          std::fill_n(out, c, T(0));
        each_tap(row % m.height, x, m.height, m.width, sign, [&](int64_t t, int64_t pixel) {
          const T* from = in + pixel * c;
          const T* w = weight.data() + t * c;
          for (int64_t n = 0; n < c; ++n) out[n] += w[n] * from[n];
        });
      }
    }
  });
}

template <typename T>
void weight_gradient(const DepthwiseConv3BackwardArgs& a) {
  const MapSize& m = a.map;
  const int64_t c = m.channels, rows = m.batch * m.height, image = m.height * m.width * c;
  const int64_t slices = std::min<int64_t>(rows, 64), sums = (kTaps + 1) * c;  // dbias the tenth
  std::vector<T> partial(static_cast<size_t>(slices * sums), T(0));
  parallel_items(slices, [&](int64_t slice, int) {
    T* sum = partial.data() + slice * sums;
    for (int64_t row = rows * slice / slices; row < rows * (slice + 1) / slices; ++row) {
      const T* in = static_cast<const T*>(a.x) + row / m.height * image;
      for (int64_t x = 0; x < m.width; ++x) {
        const T* g = static_cast<const T*>(a.grad_y) + (row * m.width + x) * c;
        each_tap(row % m.height, x, m.height, m.width, 1, [&](int64_t t, int64_t pixel) {
          const T* from = in + pixel * c;
          for (int64_t n = 0; n < c; ++n) sum[t * c + n] += g[n] * from[n];
        });
        for (int64_t n = 0; n < c; ++n) sum[kTaps * c + n] += g[n];
      }
    }
  });
  const auto total = [&](int64_t i) {
    T value = 0;
    for (int64_t slice = 0; slice < slices; ++slice)
      value += partial[static_cast<size_t>(slice * sums + i)];
    return value;
  };
  for (int64_t n = 0; n < c; ++n) {
    for (int64_t t = 0; a.dweight && t < kTaps; ++t)
      static_cast<T*>(a.dweight)[n * kTaps + t] = total(t * c + n);
    if (a.dbias) static_cast<T*>(a.dbias)[n] = total(kTaps * c + n);
  }
}

template <typename T>
void backward(const DepthwiseConv3BackwardArgs& a) {
  if (a.dx) convolve<T>({a.dtype, a.map, a.grad_y, a.weight, nullptr, a.dx}, -1);
  if (a.dweight || a.dbias) weight_gradient<T>(a);
}

}  // namespace

void depthwise_conv3(const DepthwiseConv3Args& a) {
  dispatch_float("depthwise_conv3", a.dtype, [&](auto zero) { convolve<decltype(zero)>(a, 1); });
}

void depthwise_conv3_backward(const DepthwiseConv3BackwardArgs& a) {
  dispatch_float("depthwise_conv3_backward", a.dtype,
                 [&](auto zero) { backward<decltype(zero)>(a); });
}

}  // namespace mullion::cpu
