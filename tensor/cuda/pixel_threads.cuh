// One thread for N neighbouring channels of a pixel of an NHWC map. A row of the map is a number of
// whole blocks, so that a thread finds its place with 32-bit divisions by the row's size alone.
#pragma once
#include <initializer_list>

#include "tensor/cuda/rows.cuh"
#include "tensor/kernel_args/pooling.h"

namespace mullion::cuda {

constexpr int kPixelThreads = 128;

struct PixelThreads {
  int64_t batch = 0;
  int height = 0, width = 0, groups = 0;  // groups of N channels
  int blocks_a_row = 0;

  Grid grid() const { return {batch * height * blocks_a_row}; }
};

inline PixelThreads pixel_threads(const char* kernel, const MapSize& map, int n) {
  CHECK_AS(
      Fault::usage,
      map.height <= 0x7fffffff && map.width * map.channels <= 0x7fffffff && map.width <= 0x7fffffff,
      kernel, ": a map of ", map.height, " rows of ", map.width, " pixels of ", map.channels,
      " channels is too large for cuda (2147483647 elements a row)");
  PixelThreads t{map.batch, static_cast<int>(map.height), static_cast<int>(map.width),
                 static_cast<int>(map.channels / n), 0};
  const int64_t in_row = map.width * t.groups;
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

// Launches kernel_of(T{}, n), the kernel of a type and N = n() channels a thread, with (args,
// PixelThreads, more...). N is 16 / sizeof(T) where `vectors` says that pointers allow and channels
// and all `strides` between pixels are multiples of it; else 1.
template <typename KernelOf, typename Args, typename... More>
void launch_pixels(const char* name, DType dtype, const MapSize& map, bool vectors,
                   std::initializer_list<int64_t> strides, const KernelOf& kernel_of,
                   const Args& args, const More&... more) {
  dispatch_cuda(name, dtype, [&](auto zero) {
    const auto run = [&](auto n) {
      const PixelThreads threads = pixel_threads(name, map, n());
      launch(name, kernel_of(zero, n), threads.grid(), kPixelThreads, 0, args, threads, more...);
    };
    dispatch_channels<decltype(zero)>(map.channels, vectors, run, strides);
  });
}

}  // namespace mullion::cuda
