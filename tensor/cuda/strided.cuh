// Index spaces on the device: the merged axes of tensor/strided.h as a kernel's argument.
#pragma once
#include "tensor/cuda/runtime/launch.h"
#include "tensor/strided.h"

namespace mullion::cuda {

template <int K>
struct DeviceSpace {
  int rank = 0;
  int64_t size[kMaxRank] = {};
  int64_t stride[K][kMaxRank] = {};
};

template <int K>
DeviceSpace<K> on_device(const StridedSpace<K>& space) {
  DeviceSpace<K> d;
  d.rank = space.rank;
  for (int axis = 0; axis < space.rank; ++axis) {
    const auto at = static_cast<size_t>(axis);
    d.size[axis] = space.size[at];
    for (int k = 0; k < K; ++k) d.stride[k][axis] = space.stride[static_cast<size_t>(k)][at];
  }
  return d;
}

// Where element `index` of the space lies for each operand. Division of 64 bits is slow on a GPU
// and seldom needed.
template <int K>
__device__ __forceinline__ void offsets_of(const DeviceSpace<K>& space, int64_t index,
                                           int64_t (&offset)[K]) {
#pragma unroll
  for (int k = 0; k < K; ++k) offset[k] = 0;
#pragma unroll
  for (int axis = kMaxRank - 1; axis >= 0; --axis) {
    if (axis >= space.rank) continue;
    const int64_t size = space.size[axis];
    int64_t rest = 0, at = index;
    if (axis > 0) {
      if (static_cast<uint64_t>(index | size) >> 32) {
        rest = index / size;
      } else {
        rest = static_cast<uint32_t>(index) / static_cast<uint32_t>(size);
      }
      at = index - rest * size;
    }
#pragma unroll
    for (int k = 0; k < K; ++k) offset[k] += at * space.stride[k][axis];
    index = rest;
  }
}

}  // namespace mullion::cuda
