#include "models/language_model.h"

#include "autograd/ops.h"

namespace mullion {

Tensor LanguageModel::head(const Tensor& hidden) const { return linear(hidden, head_weight()); }

Tensor LanguageModel::logits(const Tensor& ids, KvCache* cache) const {
  return head(hidden(ids, cache));
}

Tensor LanguageModel::loss(const Tensor& ids, const Tensor& targets, double scale,
                           const Tensor& dropout_stream) const {
  check_same_shape("language model: loss", ids, targets);
  const Tensor x = hidden(ids, nullptr, dropout_stream);
  const int64_t rows = ids.numel();
  return linear_cross_entropy(reshape(x, {rows, x.dim(2)}), head_weight(),
                              raw::reshape(targets, {rows}), scale);
}

}  // namespace mullion
