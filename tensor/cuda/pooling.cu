// Max and average pooling in NHWC, forward and backward: a thread for 16 bytes of channels of each
// pixel that is written. Both backwards gather, so each gradient is written once, by one thread.
#include <algorithm>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/pixel_threads.cuh"

namespace mullion::cuda {

namespace {

// Positions in a window, a byte for each of N channels, moved together.
template <int N>
struct Chosen {
  uint8_t v[N];

  __device__ __forceinline__ static Chosen load(const uint8_t* p) {
    Chosen c;
    if constexpr (N == 1) {
      c.v[0] = *p;
    } else if constexpr (N == 4) {
      c.set_word(0, load_vector<uint32_t>(p));
    } else {
      static_assert(N == 8);
      const uint2 words = load_vector<uint2>(p);
      c.set_word(0, words.x);
      c.set_word(4, words.y);
    }
    return c;
  }
  __device__ __forceinline__ void store(uint8_t* p) const {
    if constexpr (N == 1)
      *p = v[0];
    else if constexpr (N == 4)
      store_vector(p, word(0));
    else
      store_vector(p, uint2{word(0), word(4)});
  }

 private:
  __device__ __forceinline__ void set_word(int first, uint32_t word) {
#pragma unroll
    for (int j = 0; j < 4; ++j) v[first + j] = static_cast<uint8_t>(word >> (8 * j));
  }
  __device__ __forceinline__ uint32_t word(int first) const {
    uint32_t word = 0;
#pragma unroll
    for (int j = 0; j < 4; ++j) word |= uint32_t{v[first + j]} << (8 * j);
    return word;
  }
};

template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads)
    max_pool2_kernel(MaxPool2Args a, PixelThreads threads) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const int channel = p.group * N;
  const MapSize& m = a.map;
  const int64_t first = ((p.b * m.height + 2 * p.y) * m.width + 2 * p.x) * m.channels + channel;
  const T* x = static_cast<const T*>(a.x) + first;
  Floats<N> best = load<N>(x);
  Chosen<N> chosen{};
#pragma unroll
  for (int i = 1; i < 4; ++i) {
    if (2 * p.y + i / 2 >= m.height || 2 * p.x + i % 2 >= m.width) continue;
    const Floats<N> in = load<N>(x + (i / 2 * m.width + i % 2) * m.channels);
#pragma unroll
    for (int n = 0; n < N; ++n) {
      const bool larger = in.v[n] > best.v[n] || in.v[n] != in.v[n];
      best.v[n] = larger ? in.v[n] : best.v[n];
      chosen.v[n] = larger ? static_cast<uint8_t>(i) : chosen.v[n];
    }
  }
  const int64_t at = (p.row * threads.width + p.x) * m.channels + channel;
  store(static_cast<T*>(a.y) + at, best);
  if (a.chosen) chosen.store(a.chosen + at);
}

template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads)
    max_pool2_backward_kernel(MaxPool2BackwardArgs a, PixelThreads threads) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const MapSize& m = a.map;
  const int64_t out_h = (m.height + 1) / 2, out_w = (m.width + 1) / 2;
  const int channel = p.group * N;
  const int64_t from = ((p.b * out_h + p.y / 2) * out_w + p.x / 2) * m.channels + channel;
  const Floats<N> g = load<N>(static_cast<const T*>(a.grad_y) + from);
  const Chosen<N> chosen = Chosen<N>::load(a.chosen + from);
  const int own = p.y % 2 * 2 + p.x % 2;
  Floats<N> dx;
#pragma unroll
  for (int n = 0; n < N; ++n) dx.v[n] = chosen.v[n] == own ? g.v[n] : 0.0f;
  store(static_cast<T*>(a.dx) + (p.row * m.width + p.x) * m.channels + channel, dx);
}

template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads)
    average_pool_kernel(AveragePoolArgs a, PixelThreads threads) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const MapSize& m = a.map;
  const int64_t y0 = p.y * a.ratio, y1 = min(y0 + a.ratio, m.height);
  const int64_t x0 = p.x * a.ratio, x1 = min(x0 + a.ratio, m.width);
  const T* x = static_cast<const T*>(a.x) + p.b * m.height * m.width * a.x_stride + p.group * N;
  Floats<N> sum = {};
  for (int64_t i = y0; i < y1; ++i)
    for (int64_t j = x0; j < x1; ++j) {
      const Floats<N> in = load<N>(x + (i * m.width + j) * a.x_stride);
#pragma unroll
      for (int n = 0; n < N; ++n) sum.v[n] += in.v[n];
    }
  const float inverse = 1.0f / static_cast<float>((y1 - y0) * (x1 - x0));
#pragma unroll
  for (int n = 0; n < N; ++n) sum.v[n] *= inverse;
  store(static_cast<T*>(a.y) + (p.row * threads.width + p.x) * a.y_stride + p.group * N, sum);
}

template <typename T, int N>
__global__ void __launch_bounds__(kPixelThreads)
    average_pool_backward_kernel(AveragePoolBackwardArgs a, PixelThreads threads, int out_height,
                                 int out_width) {
  const PixelPlace p(threads);
  if (!p.inside) return;
  const int ratio = static_cast<int>(a.ratio), y = p.y / ratio, x = p.x / ratio;
  const int rows = min(ratio, threads.height - y * ratio);
  const int columns = min(ratio, threads.width - x * ratio);
  const float inverse = 1.0f / static_cast<float>(int64_t{rows} * columns);
  const int64_t from = (p.b * out_height + y) * out_width + x;
  Floats<N> g = load<N>(static_cast<const T*>(a.grad_y) + from * a.grad_y_stride + p.group * N);
#pragma unroll
  for (int n = 0; n < N; ++n) g.v[n] *= inverse;
  store(static_cast<T*>(a.dx) + (p.row * a.map.width + p.x) * a.dx_stride + p.group * N, g);
}

// A ratio beyond the map pools it whole, as does one of the map's size.
int64_t checked_ratio(const char* kernel, int64_t ratio, const MapSize& map) {
  CHECK_AS(Fault::usage, ratio >= 1, kernel, ": ratio ", ratio);
  return std::min(ratio, std::max({map.height, map.width, int64_t{1}}));
}

}  // namespace

void max_pool2(const MaxPool2Args& a) {
  launch_pixels(
      "max_pool2", a.dtype, a.map.pooled(2), aligned(a.x, a.y, a.chosen), {},
      [](auto zero, auto n) { return max_pool2_kernel<decltype(zero), n()>; }, a);
}

void max_pool2_backward(const MaxPool2BackwardArgs& a) {
  launch_pixels(
      "max_pool2_backward", a.dtype, a.map, aligned(a.grad_y, a.chosen, a.dx), {},
      [](auto zero, auto n) { return max_pool2_backward_kernel<decltype(zero), n()>; }, a);
}

void average_pool(const AveragePoolArgs& given) {
  AveragePoolArgs a = given;
  a.ratio = checked_ratio("average_pool", a.ratio, a.map);
  launch_pixels(
      "average_pool", a.dtype, a.map.pooled(a.ratio), aligned(a.x, a.y), {a.x_stride, a.y_stride},
      [](auto zero, auto n) { return average_pool_kernel<decltype(zero), n()>; }, a);
}

void average_pool_backward(const AveragePoolBackwardArgs& given) {
  AveragePoolBackwardArgs a = given;
  a.ratio = checked_ratio("average_pool_backward", a.ratio, a.map);
  const MapSize out = a.map.pooled(a.ratio);
  launch_pixels(
      "average_pool_backward", a.dtype, a.map, aligned(a.grad_y, a.dx),
      {a.grad_y_stride, a.dx_stride},
      [](auto zero, auto n) { return average_pool_backward_kernel<decltype(zero), n()>; }, a,
      out.height, out.width);
}

}  // namespace mullion::cuda
