// A pass is a layout for one length; attend() exchanges keys and values and calls attention.
#include "nn/context_parallel.h"

#include "autograd/ops.h"

namespace mullion {

ContextPass::ContextPass(const AttentionPattern& pattern, const ContextSizes& sizes,
                         std::shared_ptr<Communicator> ranks)
    : ranks_(std::move(ranks)),
      part_(std::make_shared<ContextPart>(context_part(
          pattern, sizes, context_layout(pattern, sizes.tokens, ranks_->size()), ranks_->rank()))),
      pattern_(pattern) {
  pattern_.held = part_->held;
  pattern_.length = sizes.tokens;
}

Tensor ContextPass::own(const Tensor& x, int axis) const {
  const NoGrad no_grad;
  std::vector<Tensor> spans;
  for (const TokenSpan& span : part_->own)
    spans.push_back(raw::slice(x, axis, span.begin, span.end));
  return spans.size() == 1 ? raw::contiguous(spans[0]) : concat(spans, axis);
}

Tensor ContextPass::attend(const Tensor& q, const Tensor& k, const Tensor& v, double scale) const {
  const HeldKeys keys = exchange_keys(k, v, part_, ranks_);
  std::vector<Tensor> spans;
  int64_t first = 0;
  for (const TokenSpan& span : part_->own) {
    const int64_t tokens = span.end - span.begin;
    const bool all = part_->own.size() == 1;
    spans.push_back(attention(all ? q : slice(q, 1, first, first + tokens), keys.k, keys.v,
                              pattern_, scale, place_of(*part_, span.begin)));
    first += tokens;
  }
  return spans.size() == 1 ? spans[0] : concat(spans, 1);
}

std::shared_ptr<const ContextPass> ContextParallel::pass(const AttentionPattern& pattern,
                                                         const ContextSizes& sizes) {
  if (!last_ || pattern != pattern_ || sizes != sizes_) {
    last_ = std::make_shared<ContextPass>(pattern, sizes, ranks_);
    pattern_ = pattern, sizes_ = sizes;
  }
  return last_;
}

}  // namespace mullion
