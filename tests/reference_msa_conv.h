// MSA-Conv straight from its formulas (arXiv 2310.04134; border, shift and pooled keys as
// kernel_args/msa_conv.h says), in double, one multiplication after another: the oracle of the
// tests.
#pragma once
#include <cmath>
#include <vector>

#include "tensor/kernel_args/msa_conv.h"
#include "tensor/random.h"

namespace mullion::test {

// Contiguous NHWC maps of doubles: q, o are (B, H, W, C), k, v (B, Hk, Wk, C).
struct MsaReference {
  MsaConvGeometry g;
  std::vector<double> q, k, v, o, lse;
  std::vector<double> dq, dk, dv;

  int64_t channels() const { return g.heads * g.head_dim; }

  // The pixel of the key map that channel n reads for a query and a tap, or -1 outside.
  int64_t key_pixel(int64_t n, int64_t y, int64_t x, int64_t t) const {
    const int64_t kh = g.key_height(), kw = g.key_width();
    const int64_t i = t / g.kernel_w, j = t % g.kernel_w;
    int64_t ky = y / g.pool + i * g.dilation - g.dilation * (g.kernel_h - 1) / 2;
    int64_t kx = x / g.pool + j * g.dilation - g.dilation * (g.kernel_w - 1) / 2;
    if (ky < 0 || ky >= kh || kx < 0 || kx >= kw) return -1;
    if (g.shift != MsaShift::none) {
      int64_t direction = g.direction;
      if (g.shift == MsaShift::directions)
        direction = g.heads >= 4 ? 4 * (n / g.head_dim) / g.heads : 4 * n / channels();
      const int64_t s = direction % 2 == 0 ? g.shift_size : -g.shift_size;
      int64_t& coordinate = direction < 2 ? ky : kx;
      const int64_t size = direction < 2 ? kh : kw;
      coordinate = (((coordinate - s) % size) + size) % size;
    }
    return ky * kw + kx;
  }
  double at_key(const std::vector<double>& map, int64_t b, int64_t n, int64_t y, int64_t x,
                int64_t t) const {
    const int64_t pixel = key_pixel(n, y, x, t);
    if (pixel < 0) return 0.0;
    return map[static_cast<size_t>((b * g.key_height() * g.key_width() + pixel) * channels() + n)];
  }
  size_t index(int64_t b, int64_t y, int64_t x, int64_t n) const {
    return static_cast<size_t>(((b * g.height + y) * g.width + x) * channels() + n);
  }
  double dropout_factor(int64_t b, int64_t head, int64_t y, int64_t x, int64_t t) const {
    if (g.dropout == 0) return 1.0;
    const int64_t pixel = ((b * g.heads + head) * g.height + y) * g.width + x;
    const int64_t blocks = (g.taps() + 3) / 4;
    const auto words = philox(g.seed, g.stream, static_cast<uint64_t>(pixel * blocks + t / 4));
    return uniform_from_bits(words.v[t % 4]) >= g.dropout ? 1 / (1 - g.dropout) : 0.0;
  }

  // Probabilities of one query and head, before dropout; returns the log of their sum.
  double probabilities(int64_t b, int64_t head, int64_t y, int64_t x,
                       std::vector<double>& a) const {
    a.assign(static_cast<size_t>(g.taps()), 0.0);
    double top = -INFINITY, sum = 0;
    for (int64_t t = 0; t < g.taps(); ++t) {
      double l = 0;
      for (int64_t n = head * g.head_dim; n < (head + 1) * g.head_dim; ++n)
        l += q[index(b, y, x, n)] * at_key(k, b, n, y, x, t);
      if (g.border == MsaBorder::masked && key_pixel(head * g.head_dim, y, x, t) < 0) l = -INFINITY;
      a[static_cast<size_t>(t)] = l * g.scale;
      top = std::max(top, l * g.scale);
    }
    if (top == -INFINITY) {  // no key at all
      a.assign(a.size(), 0.0);
      return -INFINITY;
    }
    for (double& p : a) sum += p = std::exp(p - top);
    for (double& p : a) p /= sum;
    return top + std::log(sum);
  }

  template <typename F>
  void each_query(const F& f) const {
    for (int64_t b = 0; b < g.batch; ++b)
      for (int64_t head = 0; head < g.heads; ++head)
        for (int64_t y = 0; y < g.height; ++y)
          for (int64_t x = 0; x < g.width; ++x) f(b, head, y, x);
  }

  void forward() {
    o.assign(q.size(), 0.0);
    lse.assign(static_cast<size_t>(g.batch * g.heads * g.height * g.width), 0.0);
    std::vector<double> a;
    each_query([&](int64_t b, int64_t head, int64_t y, int64_t x) {
      lse[static_cast<size_t>(((b * g.heads + head) * g.height + y) * g.width + x)] =
          probabilities(b, head, y, x, a);
      for (int64_t t = 0; t < g.taps(); ++t)
        for (int64_t n = head * g.head_dim; n < (head + 1) * g.head_dim; ++n)
          o[index(b, y, x, n)] += a[static_cast<size_t>(t)] * dropout_factor(b, head, y, x, t) *
                                  at_key(v, b, n, y, x, t);
    });
  }

  // The gradients of sum(grad_o * o), each term added where it belongs.
  void backward(const std::vector<double>& grad_o) {
    dq.assign(q.size(), 0.0);
    dk.assign(k.size(), 0.0);
    dv.assign(v.size(), 0.0);
    std::vector<double> a, da(static_cast<size_t>(g.taps()));
    each_query([&](int64_t b, int64_t head, int64_t y, int64_t x) {
      probabilities(b, head, y, x, a);
      const int64_t first = head * g.head_dim, last = first + g.head_dim;
      double mean = 0;
      for (int64_t t = 0; t < g.taps(); ++t) {
        double sum = 0;
        for (int64_t n = first; n < last; ++n)
          sum += grad_o[index(b, y, x, n)] * at_key(v, b, n, y, x, t);
        da[static_cast<size_t>(t)] = sum * dropout_factor(b, head, y, x, t);
        mean += a[static_cast<size_t>(t)] * da[static_cast<size_t>(t)];
      }
      for (int64_t t = 0; t < g.taps(); ++t) {
        const double p = a[static_cast<size_t>(t)];
        const double dl = g.scale * p * (da[static_cast<size_t>(t)] - mean);
        for (int64_t n = first; n < last; ++n) {
          const int64_t pixel = key_pixel(n, y, x, t);
          if (pixel < 0) continue;
          const auto key =
              static_cast<size_t>((b * g.key_height() * g.key_width() + pixel) * channels() + n);
          dq[index(b, y, x, n)] += dl * k[key];
          dk[key] += dl * q[index(b, y, x, n)];
          dv[key] += p * dropout_factor(b, head, y, x, t) * grad_o[index(b, y, x, n)];
        }
      }
    });
  }
};

}  // namespace mullion::test
