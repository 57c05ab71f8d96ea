// MSA-Conv by the fused kernels; q, k and v are read, and their gradients written, in place in one
// packed map where they come so.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// The three maps of an argument list: pointers into packed or separate tensors, and pixel strides.
struct Maps {
  Tensor q, k, v;
};

// Pixels follow each other at one distance, which a slice of the channels keeps.
int64_t pixel_stride(const Tensor& x) { return x.strides()[2]; }
Tensor with_pixel_stride(const Tensor& x) {
  const Shape& s = x.strides();
  const bool uniform = s[3] == 1 && s[1] == s[2] * x.dim(2) && s[0] == s[1] * x.dim(1);
  return uniform ? x : raw::contiguous(x);
}

Maps split(const Tensor& qkv) {
  const int64_t C = qkv.dim(3) / 3;
  return {raw::slice(qkv, 3, 0, C), raw::slice(qkv, 3, C, 2 * C), raw::slice(qkv, 3, 2 * C, 3 * C)};
}

struct Forward {
  Tensor o, lse;
};

Forward run(const Maps& m, const MsaConvGeometry& geometry) {
  const auto [B, H, W, C] = dims<4>("msa_conv", "q", m.q);
  const Forward f{empty({B, H, W, C}, m.q), empty_exact({B, geometry.heads, H, W}, m.q)};
  table(m.q).msa_conv({.geometry = geometry,
                       .dtype = m.q.dtype(),
                       .q = m.q.data<void>(),
                       .k = m.k.data<void>(),
                       .v = m.v.data<void>(),
                       .q_stride = pixel_stride(m.q),
                       .k_stride = pixel_stride(m.k),
                       .v_stride = pixel_stride(m.v),
                       .o = f.o.data<void>(),
                       .o_stride = C,
                       .lse = f.lse.data<void>()});
  return f;
}

void run_backward(const Maps& m, const Forward& f, const Tensor& g, const Maps& d,
                  const MsaConvGeometry& geometry) {
  table(m.q).msa_conv_backward({.geometry = geometry,
                                .dtype = m.q.dtype(),
                                .q = m.q.data<void>(),
                                .k = m.k.data<void>(),
                                .v = m.v.data<void>(),
                                .q_stride = pixel_stride(m.q),
                                .k_stride = pixel_stride(m.k),
                                .v_stride = pixel_stride(m.v),
                                .o = f.o.data<void>(),
                                .lse = f.lse.data<void>(),
                                .grad_o = g.data<void>(),
                                .o_stride = g.dim(3),
                                .grad_o_stride = g.dim(3),
                                .dq = d.q.data<void>(),
                                .dk = d.k.data<void>(),
                                .dv = d.v.data<void>(),
                                .dq_stride = pixel_stride(d.q),
                                .dk_stride = pixel_stride(d.k),
                                .dv_stride = pixel_stride(d.v)});
}

MsaConvGeometry for_map(MsaConvGeometry geometry, const Tensor& map, int64_t channels) {
  CHECK(geometry.heads > 0 && channels % geometry.heads == 0, "msa_conv: ", geometry.heads,
        " heads for ", channels, " channels");
  geometry.batch = map.dim(0);
  geometry.height = map.dim(1);
  geometry.width = map.dim(2);
  geometry.head_dim = channels / geometry.heads;
  check_msa_conv(geometry);
  return geometry;
}

}  // namespace

// In the terms of kernel_args/msa_conv.h, with g the gradient of O, at every pixel r and tap t:
// da_t = <g(r), v(n)>, dL_t = a_t (da_t - <g(r), O(r)>), dq(r) = scale sum_t dL_t k(n); dk and dv
// gather the same from the other side.
Tensor msa_conv(const Tensor& qkv_in, const MsaConvGeometry& given) {
  const OpScope scope("msa_conv");
  CHECK(qkv_in.rank() == 4 && qkv_in.dim(3) % 3 == 0, "msa_conv: qkv of shape ", qkv_in.shape(),
        ", expected (B, H, W, 3C)");
  CHECK(given.pool == 1, "msa_conv: k and v pooled by ", given.pool,
        " come as tensors of their own");
  const Tensor qkv = raw::contiguous(qkv_in);
  const MsaConvGeometry geometry = for_map(given, qkv, qkv.dim(3) / 3);
  const Forward f = run(split(qkv), geometry);
  return record("msa_conv", f.o, {qkv_in},
                [qkv = detached(qkv), kept = Forward{detached(f.o), f.lse},
                 geometry](const Tensor& g) -> Gradients {
                  const Tensor dqkv = empty_like(qkv);
                  run_backward(split(qkv), kept, g, split(dqkv), geometry);
                  return {dqkv};
                });
}

Tensor msa_conv(const Tensor& q, const Tensor& k, const Tensor& v, const MsaConvGeometry& given) {
  const OpScope scope("msa_conv");
  const auto [B, H, W, C] = dims<4>("msa_conv", "q", q);
  const MsaConvGeometry geometry = for_map(given, q, C);
  const Shape expected{B, geometry.key_height(), geometry.key_width(), C};
  CHECK(k.shape() == expected && v.shape() == expected, "msa_conv: k of shape ", k.shape(),
        " and v of shape ", v.shape(), ", expected ", expected);
  check_same_dtype("msa_conv", q, k);
  check_same_dtype("msa_conv", q, v);
  const Maps maps{with_pixel_stride(q), with_pixel_stride(k), with_pixel_stride(v)};
  const Forward f = run(maps, geometry);
  return record("msa_conv", f.o, {q, k, v},
                [m = Maps{detached(maps.q), detached(maps.k), detached(maps.v)},
                 kept = Forward{detached(f.o), f.lse}, geometry](const Tensor& g) -> Gradients {
                  const Maps d{empty(m.q.shape(), g), empty(m.k.shape(), g), empty(m.v.shape(), g)};
                  run_backward(m, kept, g, d, geometry);
                  return {d.q, d.k, d.v};
                });
}

}  // namespace mullion
