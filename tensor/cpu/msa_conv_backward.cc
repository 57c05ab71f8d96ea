// Backward of MSA-Conv: an item is one head of one batch entry, band after band, so that dK and dV
// are summed in a fixed order without atomics. Per tap, with P computed again from the log-sum-exp,
//   dL = scale P (<dO, v> - D),  D = <dO, O>,  dq = sum dL k,  dk = sum dL q,  dv = sum P dO.
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
struct BackwardScratch {
  BackwardScratch(const MsaPlan& plan) {
    const int64_t c = plan.g.head_dim, taps = plan.g.taps();
    carve_scratch([&](Carver& carver) {
      queries = carver.take<T>(c * plan.query_plane);
      grads = carver.take<T>(c * plan.query_plane);
      query_planes = carver.take<T>(c * plan.query_plane);
      keys = carver.take<T>(c * plan.key_plane);
      key_planes = carver.take<T>(c * plan.key_plane);
      weights = carver.take<T>(taps * plan.query_plane);
      products = carver.take<T>(taps * plan.query_plane);
      dot = carver.take<T>(plan.query_plane);
      lse = carver.take<T>(plan.query_plane);
      border = carver.take<T>(plan.key_plane);
      factors = carver.take<T>(plan.g.dropout > 0 ? taps * plan.query_plane : 0);
    });
  }
  T *queries, *grads, *query_planes, *keys, *key_planes, *weights, *products, *dot, *lse, *border,
      *factors;
};

template <typename T>
struct HeadMaps {  // the first pixel's first channel of one head of one batch entry
  const T *q, *k, *v, *o, *grad_o, *lse;
  T *dq, *dk, *dv;
};

// D and the log-sum-exp of the band; 0 in the gaps. The gradient of O is read as packed.
template <typename T>
void band_scalars(const MsaConvBackwardArgs& args, const MsaPlan& plan, const HeadMaps<T>& m,
                  int64_t y0, int64_t rows, const BackwardScratch<T>& s) {
  constexpr int64_t kPrefetchPixels = 24;
  const int64_t width = plan.g.width, channels = plan.g.head_dim;
  std::fill_n(s.dot + plan.guard, rows * plan.row, T(0));
  std::fill_n(s.lse + plan.guard, rows * plan.row, T(0));
  for (int64_t y = 0; y < rows; ++y)
    for (int64_t x = 0; x < width; ++x) {
      const int64_t pixel = (y0 + y) * width + x, at = plan.guard + y * plan.row + x;
      const T* o = m.o + pixel * args.o_stride;
      const T* g = s.grads + at * channels;
      __builtin_prefetch(o + kPrefetchPixels * args.o_stride);
      T sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < channels; ++c) sum += o[c] * g[c];
      s.dot[at] = sum;
      s.lse[at] = m.lse[pixel];
    }
}

// Makes the weights finite up to the window's reach before and after the band.
template <typename T>
void clear_guards(const MsaPlan& plan, int64_t n, T* planes) {
  for (int64_t t = 0; t < plan.g.taps(); ++t) {
    T* begin = planes + t * plan.query_plane + plan.guard;
    for (int64_t i = 0; i < plan.reach_x; ++i) begin[i - plan.reach_x] = begin[n + i] = T(0);
  }
}

template <typename T>
void backward_band(const MsaConvBackwardArgs& args, const MsaPlan& plan, const HeadMaps<T>& m,
                   int64_t b, int64_t head, int64_t band) {
  const MsaConvGeometry& g = plan.g;
  const int64_t y0 = plan.first_row(band), rows = plan.rows(band), n = rows * plan.row;
  const ChannelRuns runs = channel_runs(g, head);
  const BackwardScratch<T> s(plan);

  pack_keys(plan, runs, y0, rows, m.v, args.v_stride, s.keys);
  to_planes(s.keys, plan.key_plane, 0, plan.key_extent(rows), g.head_dim, T(1), s.key_planes);
  pack_queries(plan, y0, rows, m.grad_o, args.grad_o_stride, s.grads);
  to_planes(s.grads, plan.query_plane, plan.guard, plan.guard + n, g.head_dim, T(1),
            s.query_planes);
  tap_products(plan, rows, s.query_planes, s.key_planes, s.products);

  pack_keys(plan, runs, y0, rows, m.k, args.k_stride, s.keys);
  to_planes(s.keys, plan.key_plane, 0, plan.key_extent(rows), g.head_dim, T(1), s.key_planes);
  pack_queries(plan, y0, rows, m.q, args.q_stride, s.queries);
  to_planes(s.queries, plan.query_plane, plan.guard, plan.guard + n, g.head_dim,
            static_cast<T>(g.scale * kLog2e), s.query_planes);
  tap_products(plan, rows, s.query_planes, s.key_planes, s.weights);

  band_scalars(args, plan, m, y0, rows, s);
  const bool masked = g.border == MsaBorder::masked;
  if (masked) pack_border(plan, y0, rows, s.border);
  if (g.dropout > 0) dropout_factors(plan, b, head, y0, rows, s.factors);
  softmax_backward_over_taps(plan, n, masked ? s.border : nullptr,
                             g.dropout > 0 ? s.factors : nullptr, s.lse, s.dot, s.weights,
                             s.products);
  clear_guards(plan, n, s.weights);
  clear_guards(plan, n, s.products);

  gather_at_queries(plan, y0, rows, s.products, s.keys, static_cast<const T*>(nullptr), m.dq,
                    args.dq_stride);
  gather_at_keys(plan, runs, y0, rows, s.products, s.queries, m.dk, args.dk_stride);
  gather_at_keys(plan, runs, y0, rows, s.weights, s.grads, m.dv, args.dv_stride);
}

template <typename T>
void backward_head(const MsaConvBackwardArgs& args, const MsaPlan& plan, int64_t b, int64_t head) {
  const int64_t channel = head * plan.g.head_dim, key_pixels = plan.keys_h * plan.keys_w;
  const auto in = [&](const void* p, int64_t pixels, int64_t stride) {
    return static_cast<const T*>(p) + b * pixels * stride + channel;
  };
  const auto out = [&](void* p, int64_t pixels, int64_t stride) {
    return static_cast<T*>(p) + b * pixels * stride + channel;
  };
  const int64_t pixels = plan.pixels();
  const HeadMaps<T> m{in(args.q, pixels, args.q_stride),
                      in(args.k, key_pixels, args.k_stride),
                      in(args.v, key_pixels, args.v_stride),
                      in(args.o, pixels, args.o_stride),
                      in(args.grad_o, pixels, args.grad_o_stride),
                      static_cast<const T*>(args.lse) + (b * plan.g.heads + head) * pixels,
                      out(args.dq, pixels, args.dq_stride),
                      out(args.dk, key_pixels, args.dk_stride),
                      out(args.dv, key_pixels, args.dv_stride)};
  for (int64_t i = 0; plan.g.pool > 1 && i < key_pixels; ++i) {
    std::fill_n(m.dk + i * args.dk_stride, plan.g.head_dim, T(0));
    std::fill_n(m.dv + i * args.dv_stride, plan.g.head_dim, T(0));
  }
  for (int64_t band = 0; band < plan.bands; ++band) backward_band(args, plan, m, b, head, band);
}

template <typename T>
void backward(const MsaConvBackwardArgs& args) {
  const MsaConvGeometry& g = args.geometry;
  const MsaPlan plan = make_plan(g, 5 * g.head_dim + 2 * g.taps(), line_chunk<T>(g));
  parallel_items(g.batch * g.heads, [&](int64_t item, int) {
    backward_head<T>(args, plan, item / g.heads, item % g.heads);
  });
}

}  // namespace

void msa_conv_backward(const MsaConvBackwardArgs& args) {
  check_msa_conv(args.geometry);
  if (args.dtype == DType::f32 && has_depthwise_form(args.geometry))
    return depthwise_msa_conv_backward(args);
  dispatch_float("msa_conv_backward", args.dtype,
                 [&](auto zero) { backward<decltype(zero)>(args); });
}

}  // namespace mullion::cpu
