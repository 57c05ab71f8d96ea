// The choice of MSA-Conv's kernel: tiles in shared memory where the geometry has them, by tensor
// cores in bf16 and by multiply-adds in f32; the simple kernel for everything else.
#include <limits>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/msa_conv/msa_conv_plan.h"
#include "tensor/cuda/msa_conv/msa_conv_tile.cuh"

namespace mullion::cuda {

namespace {

bool has_tiled_geometry(const MsaConvGeometry& g) {
  constexpr int64_t kMostDilation = 8;  // d * d residues, each with tiles of its own
  const bool window = g.kernel_h == g.kernel_w &&
                      (g.kernel_h == 3 || g.kernel_h == 5 || g.kernel_h == 7) &&
                      g.dilation <= kMostDilation;
  const bool head = g.head_dim == 16 || g.head_dim == 32 || g.head_dim == 64;
  // The highest product is the highest logit only where the scale is positive.
  return window && head && g.pool == 1 && g.dropout == 0 && g.scale > 0 && g.batch > 0;
}

// Channels that are rolled in quarters of all C go by pieces of 16 bytes where a quarter does.
bool has_whole_pieces(const MsaConvGeometry& g, int64_t elements) {
  const bool by_channel = g.shift == MsaShift::directions && g.shift_size != 0 && g.heads < 4;
  return !by_channel || g.heads * g.head_dim % (4 * elements) == 0;
}

// A map that 16-byte copies can read and 32-bit offsets within an image can reach.
bool fits(const MsaConvGeometry& g, const void* map, int64_t stride, int64_t elements) {
  return reinterpret_cast<uintptr_t>(map) % 16 == 0 && stride % elements == 0 &&
         g.height * g.width * stride <= std::numeric_limits<int32_t>::max();
}

bool fits_grid(const MsaConvGeometry& g, DType dtype) {
  const MsaTiles t =
      make_msa_tiles(make_msa_map(g), tiled_pixel_bytes(static_cast<int>(g.head_dim), dtype));
  return t.blocks <= std::numeric_limits<int32_t>::max();
}

}  // namespace

bool has_tiles(const MsaConvArgs& a) {
  const MsaConvGeometry& g = a.geometry;
  if (!has_tiled_geometry(g) || (a.dtype != DType::f32 && a.dtype != DType::bf16)) return false;
  const int64_t elements = 16 / size_of(a.dtype);
  return has_whole_pieces(g, elements) && fits(g, a.q, a.q_stride, elements) &&
         fits(g, a.k, a.k_stride, elements) && fits(g, a.v, a.v_stride, elements) &&
         fits(g, a.o, a.o_stride, elements) && fits_grid(g, a.dtype);
}

bool has_tiles(const MsaConvBackwardArgs& a) {
  const int64_t elements = 16 / size_of(a.dtype);
  const MsaConvArgs forward{.geometry = a.geometry,
                            .dtype = a.dtype,
                            .q = a.q,
                            .k = a.k,
                            .v = a.v,
                            .q_stride = a.q_stride,
                            .k_stride = a.k_stride,
                            .v_stride = a.v_stride,
                            .o = a.dq,
                            .o_stride = a.dq_stride,
                            .lse = nullptr};
  return has_tiles(forward) && fits(a.geometry, a.o, a.o_stride, elements) &&
         fits(a.geometry, a.grad_o, a.grad_o_stride, elements) &&
         fits(a.geometry, a.dk, a.dk_stride, elements) &&
         fits(a.geometry, a.dv, a.dv_stride, elements);
}

void msa_conv(const MsaConvArgs& args) {
  check_msa_conv(args.geometry);
  if (!has_tiles(args)) return msa_conv_simple(args);
  args.dtype == DType::bf16 ? msa_conv_mma(args) : msa_conv_tiled(args);
}

void msa_conv_backward(const MsaConvBackwardArgs& args) {
  check_msa_conv(args.geometry);
  if (!has_tiles(args)) return msa_conv_simple_backward(args);
  args.dtype == DType::bf16 ? msa_conv_mma_backward(args) : msa_conv_tiled_backward(args);
}

}  // namespace mullion::cuda
