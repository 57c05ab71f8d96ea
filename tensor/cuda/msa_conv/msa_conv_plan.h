// Which kernel serves a geometry of MSA-Conv on CUDA.
#pragma once
#include <type_traits>

#include "tensor/check.h"
#include "tensor/kernel_args/msa_conv.h"

namespace mullion::cuda {

// Whether the kernels that hold tiles in shared memory serve it.
bool has_tiles(const MsaConvArgs& args);
bool has_tiles(const MsaConvBackwardArgs& args);

// The kernels of any geometry, and those for has_tiles() in f32 and in bf16.
void msa_conv_simple(const MsaConvArgs&);
void msa_conv_simple_backward(const MsaConvBackwardArgs&);
void msa_conv_tiled(const MsaConvArgs&);
void msa_conv_tiled_backward(const MsaConvBackwardArgs&);
void msa_conv_mma(const MsaConvArgs&);
void msa_conv_mma_backward(const MsaConvBackwardArgs&);

// Shared memory for each pixel of a tile's halo: two maps and, in the backward, two floats.
constexpr int tiled_pixel_bytes(int head_dim, DType dtype) {
  return 2 * head_dim * static_cast<int>(size_of(dtype)) + 8;
}

// Calls f(head_dim, kernel) with both as constants.
template <typename Map, typename F>
void dispatch_window(const Map& m, const F& f) {
  const auto by_kernel = [&](auto head) {
    if (m.kernel_h == 3) return f(head, std::integral_constant<int, 3>());
    if (m.kernel_h == 5) return f(head, std::integral_constant<int, 5>());
    if (m.kernel_h == 7) return f(head, std::integral_constant<int, 7>());
    fail(Fault::other, "msa_conv: no tiles for a kernel of ", m.kernel_h);
  };
  if (m.head_dim == 16) return by_kernel(std::integral_constant<int, 16>());
  if (m.head_dim == 32) return by_kernel(std::integral_constant<int, 32>());
  if (m.head_dim == 64) return by_kernel(std::integral_constant<int, 64>());
  fail(Fault::other, "msa_conv: no tiles for heads of ", m.head_dim, " channels");
}

}  // namespace mullion::cuda
