#include "tensor/cpu/msa_conv_depthwise.h"

#include <algorithm>
#include <vector>

#include "tensor/cpu/msa_conv_plan.h"
#include "tensor/cpu/msa_conv_softmax.h"
#include "tensor/cpu/simd.h"
#include "tensor/parallel.h"

namespace mullion::cpu {

namespace {

// The keys that the taps of a line of queries read, along one axis.
class TapsOfLine {
 public:
  TapsOfLine(int64_t queries, int64_t keys, int64_t kernel, int64_t shift, const MsaConvGeometry& g)
      : kernel_(kernel) {
    const int64_t reach = g.dilation * (kernel - 1) / 2;
    for (int64_t r = 0; r < queries; ++r) {
      Range range{kernel, 0};
      for (int64_t t = 0; t < kernel; ++t) {
        const int64_t at = r / g.pool + t * g.dilation - reach;
        const bool inside = at >= 0 && at < keys;
        keys_.push_back(inside ? wrap(at - shift, keys) : 0);
        if (inside) range = {std::min(range.begin, t), t + 1};
      }
      if (range.end == 0) range.begin = 0;
      ranges_.push_back(range);
    }
  }

  struct Range {
    int64_t begin, end;
    int64_t count() const { return end - begin; }
  };
  // The taps of query r that are inside the map, and the key of one of them.
  Range inside(int64_t r) const { return ranges_[static_cast<size_t>(r)]; }
  int64_t key(int64_t r, int64_t tap) const {
    return keys_[static_cast<size_t>(r * kernel_ + tap)];
  }

 private:
  int64_t kernel_;
  std::vector<int64_t> keys_;
  std::vector<Range> ranges_;
};

// One vector of channels of one batch entry, as offsets from the maps' beginnings.
template <class V>
class Lanes {
 public:
  Lanes(const MsaConvGeometry& g, int64_t batch_entry, int64_t first_channel)
      : g_(g),
        shift_(*channel_runs(g, first_channel).begin()),
        rows_(g.height, g.key_height(), g.kernel_h, shift_.shift_y, g),
        columns_(g.width, g.key_width(), g.kernel_w, shift_.shift_x, g),
        channel_(first_channel),
        first_pixel_(batch_entry * g.height * g.width),
        first_key_(batch_entry * g.key_height() * g.key_width()),
        lse_((batch_entry * g.heads + first_channel) * g.height * g.width) {}

  int64_t query(int64_t y, int64_t x, int64_t stride) const {
    return (first_pixel_ + y * g_.width + x) * stride + channel_;
  }
  int64_t key(int64_t pixel, int64_t stride) const {
    return (first_key_ + pixel) * stride + channel_;
  }
  // Calls f(pixel of the key) for each tap inside the map.
  template <typename F>
  MULLION_INLINE void each_key(int64_t y, int64_t x, const F& f) const {
    const auto rows = rows_.inside(y), columns = columns_.inside(x);
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const int64_t line = rows_.key(y, i) * g_.key_width();
      for (int64_t j = columns.begin; j < columns.end; ++j) f(line + columns_.key(x, j));
    }
  }
  int64_t taps_outside(int64_t y, int64_t x) const {
    return g_.taps() - rows_.inside(y).count() * columns_.inside(x).count();
  }
  // Of the log-sum-exp, whose heads lie a map apart.
  V load_lse(const float* lse, int64_t y, int64_t x) const {
    V values{};
    for (int i = 0; i < simd::lanes_of<V>; ++i) values[i] = lse[place(y, x, i)];
    return values;
  }
  void store_lse(float* lse, int64_t y, int64_t x, V values) const {
    for (int i = 0; i < simd::lanes_of<V>; ++i) lse[place(y, x, i)] = values[i];
  }

 private:
  int64_t place(int64_t y, int64_t x, int lane) const {
    return lse_ + (lane * g_.height + y) * g_.width + x;
  }

  const MsaConvGeometry& g_;
  ChannelRun shift_;
  TapsOfLine rows_, columns_;
  int64_t channel_, first_pixel_, first_key_, lse_;
};

// Logits are in units of log 2, as in msa_conv_softmax.h.
template <class V>
void forward_rows(const MsaConvArgs& args, const Lanes<V>& lanes, int64_t begin, int64_t end) {
  const MsaConvGeometry& g = args.geometry;
  const auto *q = static_cast<const float*>(args.q), *k = static_cast<const float*>(args.k),
             *v = static_cast<const float*>(args.v);
  const bool masked = g.border == MsaBorder::masked;
  for (int64_t y = begin; y < end; ++y)
    for (int64_t x = 0; x < g.width; ++x) {
      const V query = simd::load<V>(q + lanes.query(y, x, args.q_stride)) *
                      static_cast<float>(g.scale * kLog2e);
      const int64_t outside = masked ? 0 : lanes.taps_outside(y, x);
      V top = simd::splat<V>(outside > 0 ? 0.0f : -1e30f);
      lanes.each_key(y, x, [&](int64_t pixel) {
        top = simd::max(top, query * simd::load<V>(k + lanes.key(pixel, args.k_stride)));
      });
      V sum{}, output{};
      if (outside > 0) sum += static_cast<float>(outside) * simd::exp2(-top);
      lanes.each_key(y, x, [&](int64_t pixel) {
        const V weight =
            simd::exp2(query * simd::load<V>(k + lanes.key(pixel, args.k_stride)) - top);
        sum += weight;
        output += weight * simd::load<V>(v + lanes.key(pixel, args.v_stride));
      });
      sum = simd::max(sum, simd::splat<V>(1e-37f));  // of a query that sees no key
      simd::store(static_cast<float*>(args.o) + lanes.query(y, x, args.o_stride), output / sum);
      lanes.store_lse(static_cast<float*>(args.lse), y, x,
                      (top + simd::log2(sum)) * static_cast<float>(kLn2));
    }
}

// Queries in their order, so that dK and dV are summed in one order without atomics.
template <class V>
void backward_map(const MsaConvBackwardArgs& args, const Lanes<V>& lanes) {
  const MsaConvGeometry& g = args.geometry;
  const auto *q = static_cast<const float*>(args.q), *k = static_cast<const float*>(args.k),
             *v = static_cast<const float*>(args.v), *o = static_cast<const float*>(args.o),
             *grad_o = static_cast<const float*>(args.grad_o);
  auto *dq = static_cast<float*>(args.dq), *dk = static_cast<float*>(args.dk),
       *dv = static_cast<float*>(args.dv);
  const auto scale = static_cast<float>(g.scale), log2e = static_cast<float>(kLog2e);
  for (int64_t pixel = 0; pixel < g.key_height() * g.key_width(); ++pixel) {
    simd::store(dk + lanes.key(pixel, args.dk_stride), V{});
    simd::store(dv + lanes.key(pixel, args.dv_stride), V{});
  }
  const auto add = [](float* to, V more) { simd::store(to, simd::load<V>(to) + more); };
  for (int64_t y = 0; y < g.height; ++y)
    for (int64_t x = 0; x < g.width; ++x) {
      const V query = simd::load<V>(q + lanes.query(y, x, args.q_stride)),
              grad = simd::load<V>(grad_o + lanes.query(y, x, args.grad_o_stride)),
              dot = grad * simd::load<V>(o + lanes.query(y, x, args.o_stride)),
              top = lanes.load_lse(static_cast<const float*>(args.lse), y, x) * log2e;
      V sum{};
      lanes.each_key(y, x, [&](int64_t pixel) {
        const V key = simd::load<V>(k + lanes.key(pixel, args.k_stride)),
                value = simd::load<V>(v + lanes.key(pixel, args.v_stride)),
                weight = simd::exp2(query * (scale * log2e) * key - top),
                logit_grad = scale * weight * (grad * value - dot);
        sum += logit_grad * key;
        add(dk + lanes.key(pixel, args.dk_stride), logit_grad * query);
        add(dv + lanes.key(pixel, args.dv_stride), weight * grad);
      });
      simd::store(dq + lanes.query(y, x, args.dq_stride), sum);
    }
}

// How many channels a vector takes: as many of a direction as are a multiple of it.
int64_t channels_of_vector(const MsaConvGeometry& g) {
  const bool by_head = g.shift == MsaShift::directions && g.shift_size != 0;
  if (g.head_dim != 1 || g.dropout > 0 || (by_head && g.heads % 4 != 0)) return 0;
  const int64_t alike = by_head ? g.heads / 4 : g.heads;
  for (int64_t n = simd::kLanes; n >= 4; n /= 2)
    if (alike % n == 0) return n;
  return 0;
}

// Calls f(a vector) for the vector type of a geometry.
template <typename F>
void with_vector(const MsaConvGeometry& g, const F& f) {
  const int64_t channels = channels_of_vector(g);
  if (channels == simd::kLanes) return f(simd::Vec{});
  if constexpr (simd::kLanes > 8)
    if (channels == 8) return f(simd::Vector<8>{});
  f(simd::Vector<4>{});
}

}  // namespace

bool has_depthwise_form(const MsaConvGeometry& g) { return channels_of_vector(g) > 0; }

void depthwise_msa_conv(const MsaConvArgs& args) {
  constexpr int64_t kRows = 16;  // of an item
  const MsaConvGeometry& g = args.geometry;
  const int64_t bands = (g.height + kRows - 1) / kRows;
  with_vector(g, [&]<class V>(V) {
    const int64_t vectors = g.heads / simd::lanes_of<V>;
    parallel_items(g.batch * vectors * bands, [&](int64_t item, int) {
      const int64_t map = item / bands, begin = item % bands * kRows;
      const Lanes<V> lanes(g, map / vectors, map % vectors * simd::lanes_of<V>);
      forward_rows(args, lanes, begin, std::min(begin + kRows, g.height));
    });
  });
}

void depthwise_msa_conv_backward(const MsaConvBackwardArgs& args) {
  const MsaConvGeometry& g = args.geometry;
  with_vector(g, [&]<class V>(V) {
    const int64_t vectors = g.heads / simd::lanes_of<V>;
    parallel_items(g.batch * vectors, [&](int64_t item, int) {
      backward_map(args, Lanes<V>(g, item / vectors, item % vectors * simd::lanes_of<V>));
    });
  });
}

}  // namespace mullion::cpu
