// Attention by parts of the queries over held keys alone, as context parallelism has it, against
// attention over the whole on a device: results, and gradients summed over the parts.
#pragma once
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "autograd/engine.h"
#include "autograd/ops.h"
#include "tensor/context_plan.h"

namespace mullion::test {

struct PartCase {
  AttentionPattern pattern;
  ContextSizes sizes;
  int64_t width = 5;
  Device device = {};
  DType dtype = DType::f64;
  double bound = 1e-11;  // of what differs
  std::vector<int64_t> numbers_of_ranks = {2, 3, 4};
};

inline Tensor random_tensor(const PartCase& c, Shape shape, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  for (double& x : values) x = normal(engine);
  const Tensor t = raw::to_device(raw::cast(Tensor::from(values, shape), c.dtype), c.device);
  set_requires_grad(t, true);
  return t;
}

inline std::vector<double> values_of(const Tensor& x) {
  return raw::to_device(raw::contiguous(x), {}).to_vector<double>();
}

struct PartProblem {
  AttentionPattern pattern;
  ContextSizes sizes;
  double scale = 0.6;
  Tensor q, k, v, weight;

  explicit PartProblem(const PartCase& c) : pattern(c.pattern), sizes(c.sizes) {
    const int64_t batch = pattern.documents.empty() ? 2 : 1;
    q = random_tensor(c, {batch, sizes.tokens, sizes.heads, c.width}, 1);
    k = random_tensor(c, {batch, sizes.tokens, sizes.kv_heads, c.width}, 2);
    v = random_tensor(c, {batch, sizes.tokens, sizes.kv_heads, c.width}, 3);
    weight = detached(random_tensor(c, {batch, sizes.tokens, sizes.heads, c.width}, 4));
  }

  Tensor whole() const { return attention(q, k, v, pattern, scale); }

  // Of one rank: its queries over the keys that it holds.
  Tensor part(const ContextPart& its) const {
    const auto rows = [](const Tensor& x, const auto& spans) {
      std::vector<Tensor> pieces;
      for (const auto& span : spans) pieces.push_back(slice(x, 1, span.begin, span.end));
      return concat(pieces, 1);
    };
    AttentionPattern p = pattern;
    p.held = its.held, p.length = sizes.tokens;
    const Tensor held_k = rows(k, its.held), held_v = rows(v, its.held);
    std::vector<Tensor> results;
    for (const TokenSpan& span : its.own)
      results.push_back(attention(slice(q, 1, span.begin, span.end), held_k, held_v, p, scale,
                                  place_of(its, span.begin)));
    return concat(results, 1);
  }

  std::vector<std::vector<double>> take_gradients() const {
    std::vector<std::vector<double>> all;
    for (const Tensor& x : {q, k, v}) {
      all.push_back(values_of(grad(x)));
      clear_grad(x);
    }
    return all;
  }
};

inline double difference(const std::vector<double>& a, const std::vector<double>& b) {
  double worst = 0;
  for (size_t i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a[i] - b[i]));
  return std::isnan(worst) ? INFINITY : worst;
}

inline void check_parts(const PartCase& c, const std::string& what) {
  SCOPED_TRACE(what);
  const auto& [pattern, sizes, width, device, dtype, bound, numbers_of_ranks] = c;
  const PartProblem problem(c);
  const Tensor whole = problem.whole();
  backward(sum(mul(whole, problem.weight)));
  const auto wanted = problem.take_gradients();
  for (const int64_t ranks : numbers_of_ranks) {
    std::vector<ContextLayout> layouts = {contiguous_layout(sizes.tokens, ranks)};
    if (pattern.documents.empty()) layouts.push_back(zigzag_layout(sizes.tokens, ranks));
    for (const ContextLayout& layout : layouts) {
      for (int64_t rank = 0; rank < ranks; ++rank) {
        const ContextPart its = context_part(pattern, sizes, layout, rank);
        const Tensor o = problem.part(its);
        std::vector<Tensor> rows, weights;
        for (const TokenSpan& span : its.own) {
          rows.push_back(raw::slice(whole, 1, span.begin, span.end));
          weights.push_back(slice(problem.weight, 1, span.begin, span.end));
        }
        ASSERT_LT(difference(values_of(o), values_of(concat(rows, 1))), bound)
            << ranks << " ranks, " << rank;
        backward(sum(mul(o, concat(weights, 1))));
      }
      const auto got = problem.take_gradients();
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_LT(difference(got[i], wanted[i]), bound) << ranks << " ranks, gradient " << i;
    }
  }
}

}  // namespace mullion::test
