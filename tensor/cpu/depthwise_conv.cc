// Depthwise 3x3 convolution in NHWC, a strip at a time: one row of pixels, and of their channels as
// many as a register holds. The nine weights (or their nine gradients) stay in registers while the
// strip is walked along x, and each input is loaded once for the three pixels beside it that see
// it. The gradient of the weight is summed within fixed slices of rows and the slices are added in
// order: the same bits every time.
#include <algorithm>
#include <vector>

#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/pack.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

constexpr int64_t kTaps = 9;
constexpr int64_t kSlices = 64;

// (9, C) of the weight (C, 9), so that a tap's channels are contiguous; in reverse order for the
// transposed convolution, out(r) = sum over t of weight(t) in(r - d_t).
template <typename T>
std::vector<T> taps_first(const T* weight, int64_t channels, bool reversed) {
  std::vector<T> turned(static_cast<size_t>(kTaps * channels));
  for (int64_t c = 0; c < channels; ++c)
    for (int64_t t = 0; t < kTaps; ++t)
      turned[static_cast<size_t>((reversed ? kTaps - 1 - t : t) * channels + c)] =
          weight[c * kTaps + t];
  return turned;
}

// A whole register of channels, or the first `count` of one.
template <typename T>
struct Whole {
  Pack<T> load(const T* p) const { return Pack<T>::load(p); }
  void store(const Pack<T>& v, T* p) const { v.store(p); }
};
template <typename T>
struct Part {
  int64_t count;
  Pack<T> load(const T* p) const { return Pack<T>::load(p, count); }
  void store(const Pack<T>& v, T* p) const { v.store(p, count); }
};

// The input rows that a row of outputs sees: `top` is the first of those inside the map and
// `first_tap` the row of taps that meets it.
template <typename T>
struct Rows {
  const T* top;
  int64_t first_tap, count;
  int64_t width, channels;

  Rows(const MapSize& m, const T* map, int64_t row) : width(m.width), channels(m.channels) {
    const int64_t y = row % m.height, begin = std::max<int64_t>(0, y - 1);
    count = std::min(m.height, y + 2) - begin;
    first_tap = begin - (y - 1);
    top = map + (row - y + begin) * width * channels;
  }
};

// f(channel, lanes) for the strips of a row, where `lanes` loads and stores their channels, with
// the number of input rows as a constant.
template <typename T, typename F>
void each_strip(const Rows<T>& rows, F f) {
  if (rows.width == 0) return;
  const auto strips = [&]<int kRows>(std::integral_constant<int, kRows> n) {
    for_packs<T>(
        0, rows.channels, [&](int64_t c) { f(c, Whole<T>{}, n); },
        [&](int64_t c, int64_t count) { f(c, Part<T>{count}, n); });
  };
  if (rows.count == 3) return strips(std::integral_constant<int, 3>());
  if (rows.count == 2) return strips(std::integral_constant<int, 2>());
  strips(std::integral_constant<int, 1>());
}

// out(x, c) = bias(c) + sum over t of weight(t, c) in(r + d_t, c) along a row; bias may be null.
template <typename T>
void convolve_row(const Rows<T>& rows, const T* weight, const T* bias, T* out) {
  using P = Pack<T>;
  const int64_t channels = rows.channels, row = rows.width * channels;
  each_strip(rows, [&]<int kRows>(int64_t c, auto lanes, std::integral_constant<int, kRows>) {
    P w[kRows][3];
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < 3; ++j)
        w[i][j] = lanes.load(weight + ((rows.first_tap + i) * 3 + j) * channels + c);
    const P start = bias ? lanes.load(bias + c) : P::Zero();
    const T* in = rows.top + c;
    T* to = out + c;
    P left = start, here = start;  // sums of the pixels x - 1 and x
    for (int64_t x = 0; x < rows.width; ++x, in += channels) {
      P right = start;
      for (int i = 0; i < kRows; ++i) {
        const P value = lanes.load(in + i * row);
        left += value * w[i][2];
        here += value * w[i][1];
        right += value * w[i][0];
      }
      if (x > 0) lanes.store(left, to), to += channels;
      left = here;
      here = right;
    }
    lanes.store(left, to);
  });
}

// sums (10, C): the gradients of the weight, tap by tap, and of the bias, of a row of outputs with
// the gradient g.
template <typename T>
void add_weight_gradient(const Rows<T>& rows, const T* grad, T* sums) {
  using P = Pack<T>;
  const int64_t channels = rows.channels, row = rows.width * channels;
  each_strip(rows, [&]<int kRows>(int64_t c, auto lanes, std::integral_constant<int, kRows>) {
    T* const taps = sums + rows.first_tap * 3 * channels + c;
    T* const bias = sums + kTaps * channels + c;
    P dw[kRows][3], db = lanes.load(bias);
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < 3; ++j) dw[i][j] = lanes.load(taps + (i * 3 + j) * channels);
    const T *in = rows.top + c, *g = grad + c;
    P left = P::Zero(), here = lanes.load(g);  // gradients of the pixels x - 1 and x
    for (int64_t x = 0; x < rows.width; ++x, in += channels) {
      g += channels;
      const P right = x + 1 < rows.width ? lanes.load(g) : P::Zero();
      for (int i = 0; i < kRows; ++i) {
        const P value = lanes.load(in + i * row);
        dw[i][0] += value * right;
        dw[i][1] += value * here;
        dw[i][2] += value * left;
      }
      db += here;
      left = here;
      here = right;
    }
    for (int i = 0; i < kRows; ++i)
      for (int j = 0; j < 3; ++j) lanes.store(dw[i][j], taps + (i * 3 + j) * channels);
    lanes.store(db, bias);
  });
}

template <typename T>
void forward(const DepthwiseConv3Args& a) {
  const MapSize& m = a.map;
  const int64_t row_size = m.width * m.channels;
  const std::vector<T> weight = taps_first(static_cast<const T*>(a.weight), m.channels, false);
  parallel_for(
      m.batch * m.height, rows_of_grain(row_size, kMathGrain), [&](int64_t begin, int64_t end) {
        for (int64_t row = begin; row < end; ++row)
          convolve_row(Rows(m, static_cast<const T*>(a.x), row), weight.data(),
                       static_cast<const T*>(a.bias), static_cast<T*>(a.y) + row * row_size);
      });
}

// All gradients of a row while it is in cache.
template <typename T>
void backward(const DepthwiseConv3BackwardArgs& a) {
  const MapSize& m = a.map;
  const int64_t c = m.channels, rows = m.batch * m.height, row_size = m.width * c;
  const int64_t slices = std::min(rows, kSlices), sums = (kTaps + 1) * c;
  const bool sum = a.dweight || a.dbias;
  const std::vector<T> weight = taps_first(static_cast<const T*>(a.weight), c, true);
  std::vector<T> partial(static_cast<size_t>(std::max<int64_t>(1, slices) * sums), T(0));
  const auto* g = static_cast<const T*>(a.grad_y);
  parallel_items(slices, [&](int64_t slice, int) {
    for (int64_t row = rows * slice / slices; row < rows * (slice + 1) / slices; ++row) {
      if (a.dx)
        convolve_row(Rows(m, g, row), weight.data(), static_cast<const T*>(nullptr),
                     static_cast<T*>(a.dx) + row * row_size);
      if (sum)
        add_weight_gradient(Rows(m, static_cast<const T*>(a.x), row), g + row * row_size,
                            partial.data() + slice * sums);
    }
  });
  for (int64_t slice = 1; slice < slices && sum; ++slice)
    map_packs(
        0, sums, partial.data(), [](Pack<T> all, Pack<T> one) { return all + one; },
        static_cast<const T*>(partial.data()),
        static_cast<const T*>(partial.data() + slice * sums));
  for (int64_t n = 0; n < c; ++n) {
    for (int64_t t = 0; a.dweight && t < kTaps; ++t)
      static_cast<T*>(a.dweight)[n * kTaps + t] = partial[static_cast<size_t>(t * c + n)];
    if (a.dbias) static_cast<T*>(a.dbias)[n] = partial[static_cast<size_t>(kTaps * c + n)];
  }
}

}  // namespace

void depthwise_conv3(const DepthwiseConv3Args& a) {
  dispatch_float("depthwise_conv3", a.dtype, [&](auto zero) { forward<decltype(zero)>(a); });
}

void depthwise_conv3_backward(const DepthwiseConv3BackwardArgs& a) {
  dispatch_float("depthwise_conv3_backward", a.dtype,
                 [&](auto zero) { backward<decltype(zero)>(a); });
}

}  // namespace mullion::cpu
