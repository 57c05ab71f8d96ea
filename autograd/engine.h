// The backward pass.
#pragma once
#include <functional>

#include "autograd/node.h"

namespace mullion {

// Adds to grad() of every leaf below `y` the gradient of sum(y * g). Without g, y must be a scalar
// and g is 1. Every closure is freed as soon as it has run, so a graph serves one backward.
void backward(const Tensor& y, const Tensor& g = {});

// While one lives on this thread, it is called for each gradient that a pass, or a pass inside that
// one, has added to a leaf: after the addition, and as often as there are uses of the leaf. So
// gradients can be sent away while the pass goes on with earlier layers
// (optim/parallel/rank_sum.h).
class LeafWatch {
 public:
  using OnGradient = std::function<void(GradData& leaf)>;
  explicit LeafWatch(OnGradient on_gradient);
  ~LeafWatch();
  LeafWatch(const LeafWatch&) = delete;
  LeafWatch& operator=(const LeafWatch&) = delete;

 private:
  OnGradient on_gradient_;
  const OnGradient* before_;
};

// For the backward of a loss: whether g is the 1 from which the pass on this thread began, known
// without a look at its value, for which a device would have to be waited for.
bool is_one(const Tensor& g);

}  // namespace mullion
