// Depthwise 3x3 convolution in NHWC. A thread keeps the nine weights of its N channels in registers
// and walks over strips of four neighbouring pixels: each row of a strip's window is six pixels,
// read once, for twelve multiply-adds a channel.
//
// The gradient of the weight is a sum over all pixels in two stages, both in a fixed order: a block
// sums its own rows in registers and then over its threads; then the blocks are added. The number
// of blocks depends on the map alone, so the bits are the same on every device.
#include <algorithm>
#include <bit>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/cuda/runtime/runtime.h"

namespace mullion::cuda {

namespace {

constexpr int kTaps = 9, kSums = kTaps + 1;  // with the bias's gradient
constexpr int kStrip = 4;                    // pixels
constexpr int kThreads = 128;

// A block takes 1 to 32 groups of N channels and, of their maps, a number of whole rows; the rows
// of all images are numbered through. Its threads are (walker, group), the group first.
struct Layout {
  int64_t rows;
  int height, width, channels;
  int groups, group_blocks;  // of a block, blocks for all channels
  int rows_a_block;
  int64_t row_blocks;

  Grid grid() const { return {row_blocks * group_blocks}; }
  __host__ __device__ int walkers() const { return kThreads / groups; }
  __host__ __device__ int strips() const { return (width + kStrip - 1) / kStrip; }
};

Layout layout_of(const char* kernel, const MapSize& map, int n, int64_t rows_a_block) {
  const auto [batch, height, width, channels] = map;
  CHECK_AS(Fault::usage, width * channels <= 0x7fffffff && height <= 0x7fffffff, kernel,
           ": a map of ", height, " rows of ", width, " pixels of ", channels,
           " channels is too large for cuda (2147483647 elements a row)");
  Layout l{};
  l.rows = batch * height;
  l.height = static_cast<int>(height), l.width = static_cast<int>(width);
  l.channels = static_cast<int>(channels);
  const auto all = static_cast<unsigned>(channels / n);
  l.groups = static_cast<int>(std::bit_ceil(std::min(all, 32u)));
  l.group_blocks = static_cast<int>((all + static_cast<unsigned>(l.groups) - 1) /
                                    static_cast<unsigned>(l.groups));
  l.rows_a_block = static_cast<int>(std::min<int64_t>(rows_a_block, std::max<int64_t>(l.rows, 1)));
  l.row_blocks = (l.rows + l.rows_a_block - 1) / l.rows_a_block;
  return l;
}

// What a block and a thread work on.
struct Share {
  int walker, channel;  // the first of the thread's channels
  bool has_channels;
  int64_t row_block, first_row;
  int rows;

  __device__ __forceinline__ Share(const Layout& l, int n) {
    const unsigned group_blocks = static_cast<unsigned>(l.group_blocks);
    const int thread = static_cast<int>(threadIdx.x);
    walker = thread / l.groups;
    channel = (static_cast<int>(blockIdx.x % group_blocks) * l.groups + thread % l.groups) * n;
    has_channels = channel < l.channels;
    row_block = blockIdx.x / group_blocks;
    first_row = row_block * l.rows_a_block;
    rows = static_cast<int>(min(int64_t{l.rows_a_block}, l.rows - first_row));
  }
};

// Row y + dy of the image that row `row` of all belongs to; null outside.
template <typename T>
__device__ __forceinline__ const T* neighbour_row(const Layout& l, const T* map, int64_t row, int y,
                                                  int dy) {
  if (y + dy < 0 || y + dy >= l.height) return nullptr;
  return map + (row + dy) * l.width * l.channels;
}
template <int N, typename T>
__device__ __forceinline__ Floats<N> pixel_of(const Layout& l, const T* row, int x, int channel) {
  if (x < 0 || x >= l.width) return {};
  return load<N>(row + x * l.channels + channel);
}

// out = bias + sum over t of weight_t in(r + d_t), or, turned, in(r - d_t).
template <typename T, int N, bool kTurned>
__global__ void __launch_bounds__(kThreads)
    depthwise_kernel(const T* in, const float* weight, const float* bias, T* out, Layout l) {
  const Share share(l, N);
  if (!share.has_channels) return;
  float w[kTaps][N], start[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    start[n] = bias ? bias[share.channel + n] : 0.0f;
#pragma unroll
    for (int t = 0; t < kTaps; ++t)
      w[t][n] = weight[(share.channel + n) * kTaps + (kTurned ? kTaps - 1 - t : t)];
  }
  for (int item = share.walker; item < share.rows * l.strips(); item += l.walkers()) {
    const int64_t row = share.first_row + item / l.strips();
    const int x0 = item % l.strips() * kStrip, y = static_cast<int>(row % l.height);
    Floats<N> sum[kStrip];
#pragma unroll
    for (int s = 0; s < kStrip; ++s)
#pragma unroll
      for (int n = 0; n < N; ++n) sum[s].v[n] = start[n];
#pragma unroll
    for (int dy = -1; dy <= 1; ++dy) {
      const T* from = neighbour_row(l, in, row, y, dy);
      if (!from) continue;
#pragma unroll
      for (int c = 0; c < kStrip + 2; ++c) {
        const Floats<N> v = pixel_of<N>(l, from, x0 + c - 1, share.channel);
#pragma unroll
        for (int s = 0; s < kStrip; ++s)
          if (c >= s && c - s < 3)
#pragma unroll
            for (int n = 0; n < N; ++n) sum[s].v[n] += w[3 * (dy + 1) + c - s][n] * v.v[n];
      }
    }
    T* to = out + row * l.width * l.channels + share.channel;
#pragma unroll
    for (int s = 0; s < kStrip; ++s)
      if (x0 + s < l.width) store(to + (x0 + s) * l.channels, sum[s]);
  }
}

// The block's sums go to partials (row blocks, kSums, channels).
template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    depthwise_sums_kernel(const T* x, const T* grad, float* partials, Layout l) {
  DYNAMIC_SHARED(float, shared);  // (N, walkers, groups): a thread beside the next
  const Share share(l, N);
  float sum[kSums][N] = {};
  const int items = share.has_channels ? share.rows * l.strips() : 0;
  for (int item = share.walker; item < items; item += l.walkers()) {
    const int64_t row = share.first_row + item / l.strips();
    const int x0 = item % l.strips() * kStrip, y = static_cast<int>(row % l.height);
    Floats<N> g[kStrip];
#pragma unroll
    for (int s = 0; s < kStrip; ++s) {
      g[s] = pixel_of<N>(l, neighbour_row(l, grad, row, y, 0), x0 + s, share.channel);
#pragma unroll
      for (int n = 0; n < N; ++n) sum[kTaps][n] += g[s].v[n];
    }
#pragma unroll
    for (int dy = -1; dy <= 1; ++dy) {
      const T* from = neighbour_row(l, x, row, y, dy);
      if (!from) continue;
#pragma unroll
      for (int c = 0; c < kStrip + 2; ++c) {
        const Floats<N> v = pixel_of<N>(l, from, x0 + c - 1, share.channel);
#pragma unroll
        for (int s = 0; s < kStrip; ++s)
          if (c >= s && c - s < 3)
#pragma unroll
            for (int n = 0; n < N; ++n) sum[3 * (dy + 1) + c - s][n] += g[s].v[n] * v.v[n];
      }
    }
  }
  const int group = static_cast<int>(threadIdx.x) % l.groups;
#pragma unroll
  for (int t = 0; t < kSums; ++t) {
    __syncthreads();  // the last sums have been read
#pragma unroll
    for (int n = 0; n < N; ++n) shared[n * kThreads + threadIdx.x] = sum[t][n];
    __syncthreads();
    if (share.walker == 0 && share.has_channels) {
      Floats<N> total{};
      for (int walker = 0; walker < l.walkers(); ++walker)
#pragma unroll
        for (int n = 0; n < N; ++n) total.v[n] += shared[n * kThreads + walker * l.groups + group];
      store(partials + (share.row_block * kSums + t) * l.channels + share.channel, total);
    }
  }
}

// dweight (C, 9) and dbias (C), either of which may be null, from the partial sums of all blocks.
__global__ void __launch_bounds__(kThreads)
    depthwise_total_kernel(const float* partials, float* dweight, float* dbias, int64_t blocks,
                           int channels) {
  const int64_t index = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t width = int64_t{kSums} * channels;
  if (index >= width) return;
  float total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += partials[block * width + index];
  const int64_t t = index / channels, c = index % channels;
  if (t < kTaps && dweight) dweight[c * kTaps + t] = total;
  if (t == kTaps && dbias) dbias[c] = total;
}

// Rows for a block of the convolution: some strips for each thread, so that the weights are worth
// their loads.
int64_t rows_a_block(const MapSize& map, int n) {
  constexpr int64_t kStripsAThread = 8;
  const int64_t groups =
      std::bit_ceil(static_cast<uint64_t>(std::min<int64_t>(map.channels / n, 32)));
  const int64_t strips = (map.width + kStrip - 1) / kStrip;
  return std::max<int64_t>(1, kStripsAThread * (kThreads / groups) / strips);
}

template <typename T, int N, bool kTurned>
void convolve(const char* name, const DepthwiseConv3Args& a) {
  const Layout l = layout_of(name, a.map, N, rows_a_block(a.map, N));
  launch(name, depthwise_kernel<T, N, kTurned>, l.grid(), kThreads, 0, static_cast<const T*>(a.x),
         static_cast<const float*>(a.weight), static_cast<const float*>(a.bias),
         static_cast<T*>(a.y), l);
}

template <typename T, int N>
void weight_gradient(const DepthwiseConv3BackwardArgs& a) {
  constexpr int64_t kMostBlocks = 256;
  const int64_t rows = a.map.batch * a.map.height, fewest = (rows + kMostBlocks - 1) / kMostBlocks;
  const Layout l =
      layout_of("depthwise_conv3_backward", a.map, N, std::max(fewest, rows_a_block(a.map, N)));
  const int64_t sums = kSums * a.map.channels;
  const Storage memory(std::max<int64_t>(1, l.row_blocks) * sums * int64_t{sizeof(float)},
                       Device{DeviceType::cuda, current_device()});
  auto* partials = reinterpret_cast<float*>(memory.data());
  launch("depthwise_conv3_sums", depthwise_sums_kernel<T, N>, l.grid(), kThreads,
         sizeof(float) * kThreads * N, static_cast<const T*>(a.x), static_cast<const T*>(a.grad_y),
         partials, l);
  launch("depthwise_conv3_total", depthwise_total_kernel, Grid{(sums + kThreads - 1) / kThreads},
         kThreads, 0, partials, static_cast<float*>(a.dweight), static_cast<float*>(a.dbias),
         l.row_blocks, l.channels);
}

}  // namespace

void depthwise_conv3(const DepthwiseConv3Args& a) {
  dispatch_cuda("depthwise_conv3", a.dtype, [&](auto zero) {
    using T = decltype(zero);
    dispatch_channels<T>(a.map.channels, aligned(a.x, a.y),
                         [&](auto n) { convolve<T, n(), false>("depthwise_conv3", a); });
  });
}

void depthwise_conv3_backward(const DepthwiseConv3BackwardArgs& a) {
  dispatch_cuda("depthwise_conv3_backward", a.dtype, [&](auto zero) {
    using T = decltype(zero);
    if (a.dx)
      dispatch_channels<T>(a.map.channels, aligned(a.grad_y, a.dx), [&](auto n) {
        convolve<T, n(), true>("depthwise_conv3_dx",
                               {a.dtype, a.map, a.grad_y, a.weight, nullptr, a.dx});
      });
    if (a.dweight || a.dbias)
      dispatch_channels<T>(a.map.channels, aligned(a.x, a.grad_y),
                           [&](auto n) { weight_gradient<T, n()>(a); });
  });
}

}  // namespace mullion::cuda
