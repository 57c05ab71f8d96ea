// One thread for N neighbouring channels of a pixel of an NHWC map. A row of the map is a number of
// whole blocks, so that a thread finds its place with 32-bit divisions by the row's size alone.
#pragma once
#include "tensor/cuda/rows.cuh"

namespace mullion::cuda {

constexpr int kPixelThreads = 128;

struct PixelThreads {
  int64_t batch = 0;
  int height = 0, width = 0, groups = 0;  // groups of N channels
  int blocks_a_row = 0;

  Grid grid() const { return {batch * height * blocks_a_row}; }
};

inline PixelThreads pixel_threads(const char* kernel, int64_t batch, int64_t height, int64_t width,
                                  int64_t channels, int n) {
  CHECK_AS(Fault::usage,
           height <= 0x7fffffff && width * channels <= 0x7fffffff && width <= 0x7fffffff, kernel,
           ": a map of ", height, " rows of ", width, " pixels of ", channels,
           " channels is too large for cuda (2147483647 elements a row)");
  PixelThreads t{batch, static_cast<int>(height), static_cast<int>(width),
                 static_cast<int>(channels / n), 0};
  const int64_t in_row = width * t.groups;
  t.blocks_a_row = static_cast<int>((in_row + kPixelThreads - 1) / kPixelThreads);
  return t;
}

// The thread's place; `row` counts the rows of all images.
struct PixelPlace {
  int64_t b, row;
  int y, x, group;
  bool inside;

  __device__ __forceinline__ explicit PixelPlace(const PixelThreads& t) {
    const unsigned blocks = static_cast<unsigned>(t.blocks_a_row);
    const unsigned row_index = blockIdx.x / blocks, height = static_cast<unsigned>(t.height);
    const unsigned groups = static_cast<unsigned>(t.groups);
    const unsigned item = blockIdx.x % blocks * kPixelThreads + threadIdx.x;
    row = row_index;
    b = row_index / height;
    y = static_cast<int>(row_index % height);
    x = static_cast<int>(item / groups);
    group = static_cast<int>(item % groups);
    inside = x < t.width;
  }
};

// Calls f with N = 16 / sizeof(T) channels a thread where `vectors` says that pointers allow and
// the channels, and all distances, are multiples of it; else with N = 1.
template <typename T, typename F, typename... Distances>
void dispatch_channels(bool vectors, const F& f, Distances... distances) {
  constexpr int N = 16 / sizeof(T);
  if (vectors && ((distances % N == 0) && ...)) return f(std::integral_constant<int, N>());
  f(std::integral_constant<int, 1>());
}

}  // namespace mullion::cuda
