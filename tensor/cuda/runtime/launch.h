// What every .cu file includes: the launch of a kernel and its shared memory, once for nvcc and
// once for the emulator (MULLION_SIMT, tensor/simt), which compiles the same files as plain C++.
//
//   template <typename T>
//   __global__ void scale_kernel(const T* x, T* y, int64_t n, float alpha) {
//     SHARED(float, tile, [32][33]);          // __shared__ float tile[32][33];
//     DYNAMIC_SHARED(unsigned char, raw);     // the launch's shared_bytes, aligned to 128
//     ...
//   }
//   launch("scale", scale_kernel<T>, Grid{blocks}, 256, shared_bytes, x, y, n, alpha);
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "tensor/check.h"
#include "tensor/cuda/runtime/intrinsics.cuh"
#include "tensor/cuda/runtime/runtime.h"
#ifdef MULLION_SIMT
#include "tensor/simt/launch.h"
#endif

#ifdef MULLION_SIMT
#define SHARED(type, name, extents)                                                       \
  using name##_shared_type = type extents;                                                \
  static ::mullion::simt::SharedVariable name##_shared(#name, sizeof(name##_shared_type), \
                                                       alignof(name##_shared_type));      \
  name##_shared_type& name = *static_cast<name##_shared_type*>(name##_shared.in_this_block())
#define DYNAMIC_SHARED(type, name) \
  type* const name = static_cast<type*>(::mullion::simt::dynamic_shared())
#else
#define SHARED(type, name, extents) __shared__ type name extents
// One declaration for all kernels: C++ would take differently typed ones for a conflict.
#define DYNAMIC_SHARED(type, name)                                         \
  extern __shared__ __align__(128) unsigned char mullion_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(mullion_dynamic_shared)
#endif

namespace mullion::cuda {

struct Grid {
  int64_t x = 1, y = 1, z = 1;
};
constexpr int64_t kMaxGridX = 0x7fffffff, kMaxGridYZ = 65535;

// Queues kernel(args...) on the current stream with `threads` a block. A grid without blocks is no
// launch: there was nothing to compute. Throws Error with the kernel's name where the device
// refuses.
template <typename... Params, typename... Args>
void launch(const char* name, void (*kernel)(Params...), Grid grid, int threads,
            size_t shared_bytes, const Args&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args), "as many arguments as the kernel takes");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  CHECK(grid.x > 0 && grid.x <= kMaxGridX && grid.y > 0 && grid.y <= kMaxGridYZ && grid.z > 0 &&
            grid.z <= kMaxGridYZ,
        name, ": a grid of ", grid.x, " x ", grid.y, " x ", grid.z, " blocks is not possible");
  CHECK(shared_bytes <= device_facts().shared_per_block, name, ": a block asks for ", shared_bytes,
        " bytes of shared memory, ", device_facts().name, " has ", device_facts().shared_per_block);
#ifdef MULLION_SIMT
  simt::launch(name, kernel, grid.x, grid.y, grid.z, threads, shared_bytes, current_stream(),
               args...);
#else
  // Beyond 48 KB, static shared memory included, a kernel has to be given leave.
  constexpr size_t kSurelyAllowed = 16 << 10;
  if (shared_bytes > kSurelyAllowed)
    allow_shared(reinterpret_cast<const void*>(kernel), shared_bytes);
  const dim3 blocks(static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y),
                    static_cast<unsigned>(grid.z));
  // It takes the launch for comparisons.
  // clang-format off
  kernel<<<blocks, static_cast<unsigned>(threads), shared_bytes, current_stream()>>>(
      static_cast<Params>(args)...);
  // clang-format on
#endif
  launched(name);
}

}  // namespace mullion::cuda
