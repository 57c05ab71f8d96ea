// The recorded node has one edge, x; parameters inside the block get their gradients from the inner
// backward pass directly.
#include "autograd/activation_checkpoint.h"

#include "autograd/engine.h"

namespace mullion {

Tensor checkpoint(const std::function<Tensor(const Tensor&)>& block, const Tensor& x) {
  if (!grad_enabled()) return block(x);
  Tensor y;
  {
    NoGrad no_grad;
    y = block(detached(x));
  }
  const bool x_needs_grad = requires_grad(x);
  // Parameters inside may need gradients even where x does not: stand in for them by a leaf.
  Tensor anchor = x_needs_grad ? x : Tensor::empty({0});
  if (!x_needs_grad) set_requires_grad(anchor, true);
  return record("checkpoint", y, {anchor},
                [block, kept = detached(x), x_needs_grad](const Tensor& g) -> Gradients {
                  EnableGrad enable;
                  const Tensor input = detached(kept);
                  if (x_needs_grad) set_requires_grad(input, true);
                  const Tensor again = block(input);
                  if (requires_grad(again)) backward(again, g);
                  return {x_needs_grad ? grad(input) : Tensor()};
                });
}

}  // namespace mullion
