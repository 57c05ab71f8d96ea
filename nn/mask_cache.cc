// Two passes over the text: column sums, then attention under the mask they make, by plain ops.
#include "nn/mask_cache.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/attention_sums.h"
#include "autograd/ops.h"

namespace mullion {
namespace {

// Keys held by score and to the left of a query, of n tokens.
struct Shares {
  int64_t heavy, recent;
};
Shares shares_of(const KvCacheOptions& o, int64_t n) {
  const double tokens = static_cast<double>(n);
  const auto part = [&](double divisor) {
    const double share = o.budget_tokens > 0
                             ? std::floor(static_cast<double>(o.budget_tokens) * 100 / divisor)
                             : o.budget_percent * tokens / divisor;
    return static_cast<int64_t>(std::floor(share + 1e-9 * share));
  };
  if (o.by_score()) return {part(200), part(200)};
  return {0, part(100)};
}

// 0 where the query sees the key, -infinity elsewhere: (heads, n, n).
Tensor mask_of(const std::vector<float>& scores, int64_t heads, int64_t n, const Shares& shares) {
  std::vector<float> mask(static_cast<size_t>(heads * n * n),
                          -std::numeric_limits<float>::infinity());
  const int64_t heavy = std::min(shares.heavy, n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  for (int64_t h = 0; h < heads; ++h) {
    const float* of_head = scores.data() + h * n;
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + heavy, order.end(), [&](int64_t a, int64_t b) {
      return of_head[a] != of_head[b] ? of_head[a] > of_head[b] : a < b;
    });
    std::vector<bool> is_heavy(static_cast<size_t>(n));
    for (int64_t i = 0; i < heavy; ++i)
      is_heavy[static_cast<size_t>(order[static_cast<size_t>(i)])] = true;
    for (int64_t i = 0; i < n; ++i)
      for (int64_t j = 0; j <= i; ++j)
        if (is_heavy[static_cast<size_t>(j)] || i - j <= shares.recent)
          mask[static_cast<size_t>((h * n + i) * n + j)] = 0;
  }
  return Tensor::from(mask, {heads, 1, n, n});
}

}  // namespace

void MaskCache::begin_block(int64_t) {}

void MaskCache::rewind(int64_t position) {
  CHECK_AS(Fault::usage, position == 0, "KV cache: a simulation by a mask starts anew each time");
  seen_ = 0;
}

Tensor MaskCache::attend(int64_t layer, const Tensor& q_in, const Tensor& k_in, const Tensor& v,
                         const AttentionCall& call) {
  const auto [B, n, H, D] = dims<4>("KV cache", "q", q_in);
  CHECK_AS(Fault::usage, seen_ == 0 || layer > 0,
           "--kv-mode mask: scores whole texts in one pass and generates none");
  CHECK(B == 1 && call.pattern->kind == PatternKind::full,
        "KV cache: the mask's simulation is for one sequence under full attention");
  const RopeTable::Slice angles = call.rope->at(0, n, q_in.device());
  const Tensor q = rope_in_place(q_in, angles.cos, angles.sin);
  const Tensor k = rope_in_place(k_in, angles.cos, angles.sin);
  const Tensor sums =
      raw::to_device(attention_with_sums(q, k, v, *call.pattern, call.scale).sums, {});
  const int64_t kv_heads = shape_.kv_heads, share = H / kv_heads;
  std::vector<float> scores(static_cast<size_t>(kv_heads * n));
  const float* from = sums.data<float>();
  for (int64_t h = 0; h < H; ++h)
    for (int64_t j = 0; j < n; ++j) {
      float& to = scores[static_cast<size_t>(h / share * n + j)];
      const float found = from[h * n + j];
      to = options_.scores == KvScores::sum ? to + found : std::max(to, found);
    }
  // (1, n, heads, D) -> (KV heads, query heads of each, n, D)
  const auto grouped = [&, n = n, D = D](const Tensor& x, int64_t of_each) {
    return permute(reshape(cast(x, DType::f32), {n, kv_heads, of_each, D}), {1, 2, 0, 3});
  };
  const Tensor mask =
      raw::to_device(mask_of(scores, kv_heads, n, shares_of(options_, n)), q.device());
  const auto repeated = [&](const Tensor& x) {
    return concat(std::vector<Tensor>(static_cast<size_t>(share), x), 1);
  };
  const Tensor keys = repeated(permute(grouped(k, 1), {0, 1, 3, 2}));
  const Tensor seen = add(affine(matmul(grouped(q, share), keys), call.scale), mask);
  const Tensor o = matmul(softmax(seen), repeated(grouped(v, 1)));
  if (layer + 1 == shape_.layers) seen_ = n;
  return cast(reshape(permute(o, {2, 0, 1, 3}), {1, n, H, D}), q_in.dtype());
}

}  // namespace mullion
