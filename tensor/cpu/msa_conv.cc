// Forward of MSA-Conv: an item is one band of query rows of one head of one batch entry. Nothing is
// kept but O and the log-sum-exp; scratch memory is one band's, whatever the kernel's size.
#include "tensor/cpu/carver.h"
#include "tensor/cpu/dispatch.h"
#include "tensor/cpu/kernels.h"
#include "tensor/cpu/msa_conv_depthwise.h"
#include "tensor/cpu/msa_conv_softmax.h"
#include "tensor/cpu/msa_conv_taps.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

template <typename T>
struct ForwardScratch {
  ForwardScratch(const MsaPlan& plan) {
    const int64_t c = plan.g.head_dim, taps = plan.g.taps();
    carve_scratch([&](Carver& carver) {
      pixels = carver.take<T>(c * plan.query_plane);
      queries = carver.take<T>(c * plan.query_plane);
      keys = carver.take<T>(c * plan.key_plane);
      planes = carver.take<T>(c * plan.key_plane);
      weights = carver.take<T>(taps * plan.query_plane);
      inverse = carver.take<T>(plan.query_plane);
      lse = carver.take<T>(plan.query_plane);
      border = carver.take<T>(plan.key_plane);
      factors = carver.take<T>(plan.g.dropout > 0 ? taps * plan.query_plane : 0);
    });
  }
  T *pixels, *queries, *keys, *planes, *weights, *inverse, *lse, *border, *factors;
};

template <typename T>
void forward_band(const MsaConvArgs& args, const MsaPlan& plan, int64_t b, int64_t head,
                  int64_t band) {
  const MsaConvGeometry& g = plan.g;
  const int64_t y0 = plan.first_row(band), rows = plan.rows(band), n = rows * plan.row;
  const int64_t channel = head * g.head_dim, key_pixels = plan.keys_h * plan.keys_w;
  const ChannelRuns runs = channel_runs(g, head);
  const ForwardScratch<T> s(plan);

  const auto map = [&](const void* p, int64_t pixels, int64_t stride) {
    return static_cast<const T*>(p) + b * pixels * stride + channel;
  };
  pack_queries(plan, y0, rows, map(args.q, plan.pixels(), args.q_stride), args.q_stride, s.pixels);
  to_planes(s.pixels, plan.query_plane, plan.guard, plan.guard + n, g.head_dim,
            static_cast<T>(g.scale * kLog2e), s.queries);
  pack_keys(plan, runs, y0, rows, map(args.k, key_pixels, args.k_stride), args.k_stride, s.keys);
  to_planes(s.keys, plan.key_plane, 0, plan.key_extent(rows), g.head_dim, T(1), s.planes);
  tap_products(plan, rows, s.queries, s.planes, s.weights);

  const bool masked = g.border == MsaBorder::masked;
  if (masked) pack_border(plan, y0, rows, s.border);
  softmax_over_taps(plan, n, masked ? s.border : nullptr, s.weights, s.inverse, s.lse);
  T* lse = static_cast<T*>(args.lse) + (b * g.heads + head) * plan.pixels() + y0 * g.width;
  for (int64_t y = 0; y < rows; ++y)
    std::copy_n(s.lse + plan.guard + y * plan.row, g.width, lse + y * g.width);
  if (g.dropout > 0) {
    dropout_factors(plan, b, head, y0, rows, s.factors);
    for (int64_t t = 0; t < g.taps(); ++t)
      for (int64_t p = t * plan.query_plane + plan.guard; p < t * plan.query_plane + plan.guard + n;
           ++p)
        s.weights[p] *= s.factors[p];
  }
  pack_keys(plan, runs, y0, rows, map(args.v, key_pixels, args.v_stride), args.v_stride, s.keys);
  gather_at_queries(plan, y0, rows, s.weights, s.keys, s.inverse,
                    static_cast<T*>(args.o) + b * plan.pixels() * args.o_stride + channel,
                    args.o_stride);
}

template <typename T>
void forward(const MsaConvArgs& args) {
  const MsaConvGeometry& g = args.geometry;
  const MsaPlan plan = make_plan(g, 4 * g.head_dim + g.taps(), line_chunk<T>(g));
  parallel_items(g.batch * g.heads * plan.bands, [&](int64_t item, int) {
    const int64_t map = item / plan.bands;
    forward_band<T>(args, plan, map / g.heads, map % g.heads, item % plan.bands);
  });
}

}  // namespace

void msa_conv(const MsaConvArgs& args) {
  check_msa_conv(args.geometry);
  if (args.dtype == DType::f32 && has_depthwise_form(args.geometry))
    return depthwise_msa_conv(args);
  dispatch_float("msa_conv", args.dtype, [&](auto zero) { forward<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
