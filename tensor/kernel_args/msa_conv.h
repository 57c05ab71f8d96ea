// Arguments of MSA-Conv: multi-head self-attention in which a query sees the k x k (dilated) window
// of keys around its own pixel (TiC, arXiv 2310.04134; docs/tic.md names every choice that is
// ours). With query r, head g shifted by u_g, and tap t = (i, j) in row-major order at the offset
// delta_t = (i d - floor(d (kernel_h - 1) / 2), j d - floor(d (kernel_w - 1) / 2)) of rows and
// columns,
//   n = (r + delta_t - u_g) mod (height, width)
//   L_t(r) = scale <q^g(r), k^g(n)>,  a = softmax over t,  O^g(r) = sum_t a_t v^g(n)
// A tap is outside where r + delta_t is, whatever the shift; `border` says what then stands for its
// key. Maps are NHWC; pixel strides let q, k and v live in one packed (B, H, W, 3C) tensor.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace mullion {

// Keys outside the map: zero vectors that take part in the softmax, or not seen at all.
enum class MsaBorder : uint8_t { zero_logit, masked };

// Cyclic shift of K and V against Q. `directions`: head g is rolled by u in {(+s, 0), (-s, 0),
// (0, +s), (0, -s)} number floor(4 g / heads); with fewer than 4 heads, channel n of all C is
// rolled in direction floor(4 n / C). `one_direction`: all heads in direction number `direction`.
enum class MsaShift : uint8_t { none, directions, one_direction };

struct MsaConvGeometry {
  int64_t batch = 1, height = 1, width = 1;  // of Q and O
  int64_t heads = 1, head_dim = 1;           // C = heads * head_dim
  int64_t kernel_h = 3, kernel_w = 3, dilation = 1;
  MsaBorder border = MsaBorder::zero_logit;
  MsaShift shift = MsaShift::none;
  int64_t shift_size = 0;
  int direction = 0;
  // K and V are maps of ceil(H / pool) x ceil(W / pool): query (y, x) sees the window around
  // (y / pool, x / pool), rounded down.
  int64_t pool = 1;
  double scale = 1.0;  // head_dim^(-1/2) as published
  // Dropout of the probabilities, as the released operator has it and no model here; survivors
  // divided by 1 - dropout, not renormalised. Tap t of pixel n = ((b * heads + head) * H + y) * W +
  // x is kept where word t % 4 of Philox counter n * ceil(T / 4) + t / 4 of (seed, stream), as a
  // multiple of 2^-24 in [0, 1), is >= dropout.
  double dropout = 0.0;
  uint64_t seed = 0, stream = 0;

  int64_t taps() const { return kernel_h * kernel_w; }
  int64_t key_height() const { return (height + pool - 1) / pool; }
  int64_t key_width() const { return (width + pool - 1) / pool; }
};

// Throws Error (Fault::usage) for sizes below 1, a dropout outside [0, 1), and an even kernel with
// an odd dilation, whose window has no middle and whose gradient would be silently wrong.
void check_msa_conv(const MsaConvGeometry& geometry);

// Strides are the distances between neighbouring pixels, in elements; pixels follow each other in
// (b, y, x) order. dtype is f32 or f64 on the CPU, f32 or bf16 on a GPU, for every pointer but lse,
// which is f32 beside bf16.
struct MsaConvArgs {
  MsaConvGeometry geometry;
  DType dtype;
  const void *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  void* o;
  int64_t o_stride;
  void* lse;  // (B, heads, H, W): log of the sum of the exponentials of the taps' logits
};

// Gradients from the forward's o and lse; the probabilities are computed again. Every element of
// dq, dk and dv is written.
struct MsaConvBackwardArgs {
  MsaConvGeometry geometry;
  DType dtype;
  const void *q, *k, *v;
  int64_t q_stride, k_stride, v_stride;
  const void *o, *lse, *grad_o;
  int64_t o_stride, grad_o_stride;
  void *dq, *dk, *dv;
  int64_t dq_stride, dk_stride, dv_stride;
};

}  // namespace mullion

// Their kernels (tensor/kernel_table.h): result, name, arguments.
#define MULLION_MSA_CONV_KERNELS(KERNEL) \
  KERNEL(void, msa_conv, MsaConvArgs)    \
  KERNEL(void, msa_conv_backward, MsaConvBackwardArgs)
