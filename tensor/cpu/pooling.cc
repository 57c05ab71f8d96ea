// Max and average pooling in NHWC. Inner loops run over channels; each output pixel is written by
// one item, gradients included, so that nothing is summed across threads.
#include <algorithm>

#include "tensor/check.h"
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

// Rows of the output that make a range worth a thread.
int64_t row_grain(int64_t width, int64_t channels) {
  return std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width * channels));
}

template <typename T>
void max_row(const MaxPool2Args& a, int64_t row) {
  const MapSize &m = a.map, out_map = m.pooled(2);
  const int64_t out_h = out_map.height, out_w = out_map.width, c = m.channels;
  const int64_t y = row % out_h * 2;
  const T* top = static_cast<const T*>(a.x) + (row / out_h * m.height + y) * m.width * c;
  for (int64_t x = 0; x < out_w; ++x) {
    T* out = static_cast<T*>(a.y) + (row * out_w + x) * c;
    uint8_t* chosen = a.chosen ? a.chosen + (row * out_w + x) * c : nullptr;
    const T* first = top + 2 * x * c;
    std::copy_n(first, c, out);
    if (chosen) std::fill_n(chosen, c, uint8_t{0});
    for (int64_t i = 1; i < 4; ++i) {
      if (y + i / 2 >= m.height || 2 * x + i % 2 >= m.width) continue;
      const T* in = first + (i / 2 * m.width + i % 2) * c;
      for (int64_t n = 0; n < c; ++n) {
        const bool larger = in[n] > out[n] || in[n] != in[n];
        out[n] = larger ? in[n] : out[n];
        if (chosen) chosen[n] = larger ? static_cast<uint8_t>(i) : chosen[n];
      }
    }
  }
}

// One row of dx: each pixel takes its window's gradient where it was chosen.
template <typename T>
void max_backward_row(const MaxPool2BackwardArgs& a, int64_t row) {
  const MapSize &m = a.map, out_map = m.pooled(2);
  const int64_t out_h = out_map.height, out_w = out_map.width, c = m.channels;
  const int64_t y = row % m.height, out_row = row / m.height * out_h + y / 2;
  for (int64_t x = 0; x < m.width; ++x) {
    const int64_t from = (out_row * out_w + x / 2) * c;
    const T* g = static_cast<const T*>(a.grad_y) + from;
    const uint8_t* chosen = a.chosen + from;
    T* dx = static_cast<T*>(a.dx) + (row * m.width + x) * c;
    const auto own = static_cast<uint8_t>(y % 2 * 2 + x % 2);
    for (int64_t n = 0; n < c; ++n) dx[n] = chosen[n] == own ? g[n] : T(0);
  }
}

template <typename T>
void average_row(const AveragePoolArgs& a, int64_t row) {
  const MapSize &m = a.map, out_map = m.pooled(a.ratio);
  const int64_t r = a.ratio, out_h = out_map.height, out_w = out_map.width;
  const int64_t y0 = row % out_h * r, y1 = std::min(y0 + r, m.height);
  const T* image = static_cast<const T*>(a.x) + row / out_h * m.height * m.width * a.x_stride;
  for (int64_t x = 0; x < out_w; ++x) {
    const int64_t x0 = x * r, x1 = std::min(x0 + r, m.width);
    T* out = static_cast<T*>(a.y) + (row * out_w + x) * a.y_stride;
    std::fill_n(out, m.channels, T(0));
    for (int64_t i = y0; i < y1; ++i)
      for (int64_t j = x0; j < x1; ++j) {
        const T* in = image + (i * m.width + j) * a.x_stride;
        for (int64_t n = 0; n < m.channels; ++n) out[n] += in[n];
      }
    const T inverse = T(1) / static_cast<T>((y1 - y0) * (x1 - x0));
    for (int64_t n = 0; n < m.channels; ++n) out[n] *= inverse;
  }
}

template <typename T>
void average_backward_row(const AveragePoolBackwardArgs& a, int64_t row) {
  const MapSize &m = a.map, out_map = m.pooled(a.ratio);
  const int64_t r = a.ratio, out_h = out_map.height, out_w = out_map.width;
  const int64_t y = row % m.height / r, out_row = row / m.height * out_h + y;
  const int64_t rows = std::min(r, m.height - y * r);
  for (int64_t x = 0; x < m.width; ++x) {
    const int64_t columns = std::min(r, m.width - x / r * r);
    const T inverse = T(1) / static_cast<T>(rows * columns);
    const T* g = static_cast<const T*>(a.grad_y) + (out_row * out_w + x / r) * a.grad_y_stride;
    T* dx = static_cast<T*>(a.dx) + (row * m.width + x) * a.dx_stride;
    for (int64_t n = 0; n < m.channels; ++n) dx[n] = g[n] * inverse;
  }
}

template <typename F>
void each_row(int64_t rows, int64_t width, int64_t channels, const F& f) {
  parallel_for(rows, row_grain(width, channels), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) f(row);
  });
}

}  // namespace

void max_pool2(const MaxPool2Args& a) {
  dispatch_float("max_pool2", a.dtype, [&](auto zero) {
    const MapSize& m = a.map;
    each_row(m.batch * m.pooled(2).height, m.width, m.channels,
             [&](int64_t row) { max_row<decltype(zero)>(a, row); });
  });
}

void max_pool2_backward(const MaxPool2BackwardArgs& a) {
  dispatch_float("max_pool2_backward", a.dtype, [&](auto zero) {
    const MapSize& m = a.map;
    each_row(m.batch * m.height, m.width, m.channels,
             [&](int64_t row) { max_backward_row<decltype(zero)>(a, row); });
  });
}

void average_pool(const AveragePoolArgs& a) {
  CHECK_AS(Fault::usage, a.ratio >= 1, "average_pool: ratio ", a.ratio);
  dispatch_float("average_pool", a.dtype, [&](auto zero) {
    const MapSize& m = a.map;
    each_row(m.batch * m.pooled(a.ratio).height, m.width * a.ratio, m.channels,
             [&](int64_t row) { average_row<decltype(zero)>(a, row); });
  });
}

void average_pool_backward(const AveragePoolBackwardArgs& a) {
  CHECK_AS(Fault::usage, a.ratio >= 1, "average_pool_backward: ratio ", a.ratio);
  dispatch_float("average_pool_backward", a.dtype, [&](auto zero) {
    const MapSize& m = a.map;
    each_row(m.batch * m.height, m.width, m.channels,
             [&](int64_t row) { average_backward_row<decltype(zero)>(a, row); });
  });
}

}  // namespace mullion::cpu
