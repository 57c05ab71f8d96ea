// The two places of a block at which a checkpoint can stand.
#include "models/llama/recompute.h"

#include "autograd/activation_checkpoint.h"

namespace mullion {

Tensor BlockRecompute::block(const Part& part, const Tensor& x) const {
  return what_ == Recompute::block ? checkpoint(part, x) : part(x);
}

Tensor BlockRecompute::mlp(const Part& part, const Tensor& x) const {
  return mlp_ ? checkpoint(part, x) : part(x);
}

std::function<Tensor()> BlockRecompute::norm(const RmsNorm& norm, const Tensor& x) const {
  if (what_ != Recompute::mlp) return {};
  return [&norm, kept = detached(x)] { return norm(kept); };
}

}  // namespace mullion
