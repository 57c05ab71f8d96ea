// The oracle of the attention tests: every pair asks visible(), sums are kept in double, nothing is
// blocked, shared or skipped. Arrays are dense, B x T x H x D, of doubles.
#pragma once
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "tensor/attention_pattern.h"

namespace mullion::test {

struct ReferenceAttention {
  int64_t B, T, S, H, Hkv, D;
  int64_t query_offset;
  double scale;
  AttentionPattern pattern;

  std::vector<double> q, k, v;     // inputs
  std::vector<double> o, lse;      // forward
  std::vector<double> dq, dk, dv;  // backward

  int64_t sums_from = 0;
  std::vector<double> sums = {};  // forward: B x H x S, probabilities of queries from sums_from on

  int64_t at_q(int64_t b, int64_t t, int64_t h) const { return ((b * T + t) * H + h) * D; }
  int64_t at_k(int64_t b, int64_t s, int64_t h) const {
    return ((b * S + s) * Hkv + h / (H / Hkv)) * D;
  }
  int64_t row_of(int64_t h, int64_t t) const {
    return output_row(pattern, h, t + query_offset) - query_offset;
  }

  static double dot(const double* a, const double* b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
    return sum;
  }

  // Scaled scores of a query, -infinity where it does not see the key.
  std::vector<double> scores(int64_t b, int64_t t, int64_t h) const {
    std::vector<double> s(static_cast<size_t>(S), -std::numeric_limits<double>::infinity());
    for (int64_t j = 0; j < S; ++j)
      if (visible(pattern, h, t + query_offset, j))
        s[static_cast<size_t>(j)] = scale * dot(&q[at_q(b, t, h)], &k[at_k(b, j, h)], D);
    return s;
  }

  void forward() {
    o.assign(static_cast<size_t>(B * T * H * D), 0);
    lse.assign(static_cast<size_t>(B * H * T), 0);
    sums.assign(static_cast<size_t>(B * H * S), 0);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = 0; t < T; ++t) {
          const std::vector<double> s = scores(b, t, h);
          double top = -std::numeric_limits<double>::infinity(), sum = 0;
          for (double x : s) top = std::max(top, x);
          for (double x : s) sum += std::exp(x - top);
          const int64_t row = row_of(h, t);
          lse[static_cast<size_t>((b * H + h) * T + row)] = top + std::log(sum);
          for (int64_t j = 0; j < S; ++j) {
            const double p = std::exp(s[static_cast<size_t>(j)] - top) / sum;
            if (!(p > 0)) continue;
            if (t >= sums_from) sums[static_cast<size_t>((b * H + h) * S + j)] += p;
            for (int64_t d = 0; d < D; ++d)
              o[static_cast<size_t>(at_q(b, row, h) + d)] +=
                  p * v[static_cast<size_t>(at_k(b, j, h) + d)];
          }
        }
  }

  // After forward().
  void backward(const std::vector<double>& d_o) {
    dq.assign(q.size(), 0);
    dk.assign(k.size(), 0);
    dv.assign(v.size(), 0);
    for (int64_t b = 0; b < B; ++b)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t t = 0; t < T; ++t) {
          const std::vector<double> s = scores(b, t, h);
          const int64_t row = row_of(h, t);
          const double log_sum = lse[static_cast<size_t>((b * H + h) * T + row)];
          const double* gradient = &d_o[static_cast<size_t>(at_q(b, row, h))];
          const double delta = dot(gradient, &o[static_cast<size_t>(at_q(b, row, h))], D);
          for (int64_t j = 0; j < S; ++j) {
            const double p = std::exp(s[static_cast<size_t>(j)] - log_sum);
            if (p == 0) continue;
            const int64_t key = at_k(b, j, h), query = at_q(b, t, h);
            const double ds = p * (dot(gradient, &v[static_cast<size_t>(key)], D) - delta) * scale;
            for (int64_t d = 0; d < D; ++d) {
              dv[static_cast<size_t>(key + d)] += p * gradient[d];
              dk[static_cast<size_t>(key + d)] += ds * q[static_cast<size_t>(query + d)];
              dq[static_cast<size_t>(query + d)] += ds * k[static_cast<size_t>(key + d)];
            }
          }
        }
  }
};

// The largest difference relative to the largest value.
template <typename T>
double difference(const std::vector<T>& got, const std::vector<double>& want) {
  EXPECT_EQ(got.size(), want.size());
  double worst = 0, top = 1e-30;
  for (size_t i = 0; i < want.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - want[i]);
    worst = std::isnan(d) ? 1e30 : std::max(worst, d);
    top = std::max(top, std::abs(want[i]));
  }
  return worst / top;
}

}  // namespace mullion::test
