// Four kernels, each as its reference but for the order of the loops and the threads.
#include "tests/ladder/simple.h"

#include <cmath>
#include <vector>

#include "tensor/check.h"
#include "tensor/parallel.h"

namespace mullion::ladder {
namespace {

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// y += factor * x
void add(float factor, const float* x, float* y, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += factor * x[i];
}

// exp(x - max(x)) in place; returns the sum and gives the largest.
float exponentials(std::vector<float>& x, float& largest) {
  largest = -INFINITY;
  for (const float v : x) largest = std::max(largest, v);
  float sum = 0;
  for (float& v : x) sum += v = std::exp(v - largest);
  return sum;
}

}  // namespace

void simple_product(const float* a, const float* w, const float* bias, float* c, int64_t m,
                    int64_t n, int64_t k) {
  parallel_for(m, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row)
      for (int64_t column = 0; column < n; ++column) {
        const float x = bias[column] + dot(a + row * k, w + column * k, k);
        c[row * n + column] = 0.5f * x * (1 + std::erf(x * 0.70710678f));
      }
  });
}

void simple_rms_norm(const RmsNormArgs& args) {
  const auto* weight = static_cast<const float*>(args.weight);
  parallel_for(args.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const float* x = static_cast<const float*>(args.x) + row * args.width;
      float* y = static_cast<float*>(args.y) + row * args.width;
      const float mean = dot(x, x, args.width) / static_cast<float>(args.width);
      const float scale = 1 / std::sqrt(mean + static_cast<float>(args.eps));
      static_cast<float*>(args.rstd)[row] = scale;
      for (int64_t i = 0; i < args.width; ++i) y[i] = x[i] * scale * weight[i];
    }
  });
}

void simple_attention(const AttentionForwardArgs& args) {
  const AttentionSizes& z = args.size;
  const auto scale = static_cast<float>(z.scale);
  const auto head_of = [](const void* x, const AttentionStrides& s, int64_t b, int64_t h) {
    return static_cast<const float*>(x) + b * s.batch + h * s.head;
  };
  parallel_for(z.B * z.H * z.T, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> weights(static_cast<size_t>(z.S));
    for (int64_t row = begin; row < end; ++row) {
      const int64_t b = row / (z.H * z.T), h = row / z.T % z.H, t = row % z.T;
      const int64_t key_head = h / (z.H / z.Hkv), position = t + z.query_offset;
      const float* q = head_of(args.q, args.q_stride, b, h) + t * args.q_stride.token;
      const float* k = head_of(args.k, args.k_stride, b, key_head);
      const float* v = head_of(args.v, args.v_stride, b, key_head);
      for (int64_t j = 0; j < z.S; ++j)
        weights[static_cast<size_t>(j)] = visible(*z.pattern, h, position, j)
                                              ? scale * dot(q, k + j * args.k_stride.token, z.D)
                                              : -INFINITY;
      float largest = 0;
      const float sum = exponentials(weights, largest);
      const int64_t target = output_row(*z.pattern, h, position) - z.query_offset;
      float* o = static_cast<float*>(args.o) + b * args.o_stride.batch + h * args.o_stride.head +
                 target * args.o_stride.token;
      std::fill(o, o + z.D, 0.0f);
      for (int64_t j = 0; j < z.S; ++j)
        if (const float p = weights[static_cast<size_t>(j)]; p > 0)
          add(p / sum, v + j * args.v_stride.token, o, z.D);
    }
  });
}

void simple_msa_conv(const MsaConvArgs& args) {
  const MsaConvGeometry& g = args.geometry;
  CHECK(g.shift == MsaShift::none && g.pool == 1 && g.dropout == 0,
        "simple_msa_conv: has no shift, pooled keys or dropout");
  const int64_t reach_h = g.dilation * (g.kernel_h - 1) / 2;
  const int64_t reach_w = g.dilation * (g.kernel_w - 1) / 2;
  parallel_for(g.batch * g.height * g.width, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> weights(static_cast<size_t>(g.taps()));
    std::vector<int64_t> pixels(static_cast<size_t>(g.taps()));
    for (int64_t pixel = begin; pixel < end; ++pixel) {
      const int64_t x = pixel % g.width, y = pixel / g.width % g.height;
      for (int64_t t = 0; t < g.taps(); ++t) {
        const int64_t ky = y + t / g.kernel_w * g.dilation - reach_h;
        const int64_t kx = x + t % g.kernel_w * g.dilation - reach_w;
        const bool inside = ky >= 0 && ky < g.height && kx >= 0 && kx < g.width;
        pixels[static_cast<size_t>(t)] = inside ? pixel + (ky - y) * g.width + kx - x : -1;
      }
      for (int64_t head = 0; head < g.heads; ++head) {
        const int64_t channel = head * g.head_dim;
        const float* q = static_cast<const float*>(args.q) + pixel * args.q_stride + channel;
        for (size_t t = 0; t < pixels.size(); ++t) {
          const float* k = static_cast<const float*>(args.k) + pixels[t] * args.k_stride + channel;
          const float outside = g.border == MsaBorder::masked ? -INFINITY : 0.0f;
          weights[t] =
              pixels[t] < 0 ? outside : static_cast<float>(g.scale) * dot(q, k, g.head_dim);
        }
        float largest = 0;
        const float sum = exponentials(weights, largest);
        static_cast<float*>(
            args.lse)[(pixel / (g.height * g.width) * g.heads + head) * g.height * g.width +
                      pixel % (g.height * g.width)] = largest + std::log(sum);
        float* o = static_cast<float*>(args.o) + pixel * args.o_stride + channel;
        std::fill(o, o + g.head_dim, 0.0f);
        for (size_t t = 0; t < pixels.size(); ++t)
          if (pixels[t] >= 0)
            add(weights[t] / sum,
                static_cast<const float*>(args.v) + pixels[t] * args.v_stride + channel, o,
                g.head_dim);
      }
    }
  });
}

}  // namespace mullion::ladder
