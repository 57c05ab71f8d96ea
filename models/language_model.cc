// What follows from hidden() alone: logits, and the loss without logits of all rows.
#include "models/language_model.h"

#include "autograd/ops.h"
#include "nn/unit.h"

namespace mullion {

Tensor LanguageModel::head(const Tensor& hidden) const { return linear(hidden, head_weight()); }

Tensor LanguageModel::logits(const Tensor& ids, KvCache* cache) const {
  return head(hidden(ids, cache));
}

Tensor LanguageModel::loss(const Tensor& ids, const Tensor& targets, double scale,
                           const Tensor& dropout_stream) const {
  check_same_shape("language model: loss", ids, targets);
  const UnitScope unit(*this);
  const Tensor x = hidden(ids, nullptr, dropout_stream);
  const bool packed = !pattern().documents.empty();
  const Tensor lines = packed ? raw::reshape(targets, {1, targets.numel()}) : targets;
  const auto pass = context_pass(lines.dim(1));
  const Tensor own = pass ? pass->own(lines, 1) : lines;
  const int64_t rows = own.numel();
  return linear_cross_entropy(reshape(x, {rows, x.dim(2)}), head_weight(),
                              raw::reshape(own, {rows}), scale, kLossRows);
}

std::shared_ptr<const ContextPass> LanguageModel::context_pass(int64_t tokens) const {
  if (!context_parallel_) return nullptr;
  const KvCacheShape shape = cache_shape();
  return context_parallel_->pass(pattern(), {tokens, shape.heads, shape.kv_heads});
}

}  // namespace mullion
