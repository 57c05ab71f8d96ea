// The published simulation of H2O against its rule, written out.
#include "nn/mask_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "autograd/node.h"

namespace mullion {
namespace {

using Rows = std::vector<float>;

Rows values(size_t n, uint32_t seed) {
  Rows x(n);
  for (float& value : x) {
    seed = seed * 1664525 + 1013904223;
    value = static_cast<float>(seed >> 8) / 8388608.0f - 1;
  }
  return x;
}

struct Problem {
  int64_t n = 13, H = 4, Hkv = 2, D = 6;
  Rows q = values(13 * 4 * 6, 1), k = values(13 * 2 * 6, 2), v = values(13 * 2 * 6, 3);
  double at(const Rows& x, int64_t heads, int64_t i, int64_t h, int64_t d) const {
    return x[static_cast<size_t>((i * heads + h) * D + d)];
  }
};

// Softmax of a query's scores over the keys that `sees`, by position; no rotation.
std::vector<double> probabilities(const Problem& p, int64_t h, int64_t i, auto sees) {
  std::vector<double> row(static_cast<size_t>(p.n), 0.0);
  double sum = 0;
  for (int64_t j = 0; j <= i; ++j) {
    if (!sees(j)) continue;
    double score = 0;
    for (int64_t d = 0; d < p.D; ++d)
      score += p.at(p.q, p.H, i, h, d) * p.at(p.k, p.Hkv, j, h / 2, d);
    sum += row[static_cast<size_t>(j)] = std::exp(score * 0.7);
  }
  for (double& x : row) x /= sum;
  return row;
}

void check(const KvCacheOptions& options, int64_t heavy, int64_t recent) {
  const Problem p;
  const NoGrad no_grad;
  const RopeTable rope(std::vector<float>(3, 0.0f));  // turns nothing
  AttentionPattern full;
  MaskCache cache(options, {.layers = 1, .heads = p.H, .kv_heads = p.Hkv, .head_dim = p.D});
  const Tensor o = cache.attend(0, Tensor::from(p.q, {1, p.n, p.H, p.D}),
                                Tensor::from(p.k, {1, p.n, p.Hkv, p.D}),
                                Tensor::from(p.v, {1, p.n, p.Hkv, p.D}), {&rope, &full, 0.7});
  const auto found = o.to_vector<float>();
  for (int64_t h = 0; h < p.H; ++h) {
    std::vector<double> score(static_cast<size_t>(p.n), 0.0);
    for (int64_t of_group = h / 2 * 2; of_group < h / 2 * 2 + 2; ++of_group)
      for (int64_t i = 0; i < p.n; ++i) {
        const auto row = probabilities(p, of_group, i, [](int64_t) { return true; });
        for (size_t j = 0; j < row.size(); ++j) score[j] += row[j];
      }
    std::vector<int64_t> order(static_cast<size_t>(p.n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return score[static_cast<size_t>(a)] > score[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(heavy));
    for (int64_t i = 0; i < p.n; ++i) {
      const auto row = probabilities(p, h, i, [&](int64_t j) {
        return i - j <= recent || std::find(order.begin(), order.end(), j) != order.end();
      });
      for (int64_t d = 0; d < p.D; ++d) {
        double expected = 0;
        for (int64_t j = 0; j < p.n; ++j)
          expected += row[static_cast<size_t>(j)] * p.at(p.v, p.Hkv, j, h / 2, d);
        EXPECT_NEAR(found[static_cast<size_t>((i * p.H + h) * p.D + d)], expected, 1e-5);
      }
    }
  }
}

TEST(MaskCache, IsThePublishedRule) {
  KvCacheOptions o;
  o.kind = "h2o";
  o.mode = KvMode::mask;
  o.budget_percent = 50;
  check(o, 3, 3);  // 50 * 13 / 200
  o = {.kind = "h2o", .budget_tokens = 5, .mode = KvMode::mask};
  check(o, 2, 2);
  o = {.kind = "local", .budget_percent = 20, .mode = KvMode::mask};
  check(o, 0, 2);
}

TEST(MaskCache, GeneratesNothing) {
  const NoGrad no_grad;
  const RopeTable rope(std::vector<float>(1, 0.0f));
  AttentionPattern full;
  MaskCache cache({.kind = "h2o", .budget_tokens = 5, .mode = KvMode::mask},
                  {.layers = 1, .heads = 1, .kv_heads = 1, .head_dim = 2});
  const auto attend = [&] {
    const Tensor x = Tensor::zeros({1, 1, 1, 2});
    cache.attend(0, x, x, x, {&rope, &full, 1});
  };
  attend();
  EXPECT_THROW(attend(), Error);
  cache.rewind(0);
  EXPECT_NO_THROW(attend());
}

}  // namespace
}  // namespace mullion
