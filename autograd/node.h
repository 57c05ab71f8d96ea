// What a tensor knows of its gradient, and how an op records its backward.
//
// An op computes its result by kernels and calls record() with a closure that maps the gradient of
// the result to the gradients of the inputs. The closure captures exactly what its formula needs,
// as detached() handles; edges hold the inputs' gradient data, never their elements, so a frozen
// weight lets its layer forget its input.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace mullion {

// Gradients of the inputs, in their order; an undefined tensor where none is needed.
using Gradients = std::vector<Tensor>;
// g is the gradient of the result: contiguous, of the result's shape and type.
using BackwardFunction = std::function<Gradients(const Tensor& g)>;

struct Node {
  std::string_view op;
  std::vector<std::shared_ptr<GradData>> edges;  // one an input; null where it needs no gradient
  BackwardFunction backward;                     // emptied once it has run
  uint64_t sequence = 0;                         // of OpClock: inputs have smaller numbers
};

struct GradData {
  bool requires_grad = false;
  Shape shape;
  DType dtype = DType::f32;
  Tensor grad;                 // of a leaf: accumulated over backward calls until cleared
  std::shared_ptr<Node> node;  // null for a leaf
};

bool requires_grad(const Tensor& x);
void set_requires_grad(const Tensor& x, bool on);  // of a leaf; floating-point types only
Tensor grad(const Tensor& x);                      // undefined where there is none yet
void clear_grad(const Tensor& x);
// A handle on the same elements that takes no part in gradients.
Tensor detached(const Tensor& x);

// While one lives on this thread, ops record nothing (evaluation, generation).
class NoGrad {
 public:
  NoGrad();
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 private:
  bool before_;
};
// The reverse, for recomputation inside a backward.
class EnableGrad {
 public:
  EnableGrad();
  ~EnableGrad();
  EnableGrad(const EnableGrad&) = delete;
  EnableGrad& operator=(const EnableGrad&) = delete;

 private:
  bool before_;
};
bool grad_enabled();

// Gives y (fresh from a kernel) its place in the graph if any input needs a gradient, and returns
// it. `op` must outlive the graph: a literal. Without `backward` it throws if an input needs a
// gradient while gradients are recorded.
Tensor record(std::string_view op, Tensor y, const std::vector<Tensor>& inputs,
              BackwardFunction backward);
// The same for an op of several results: `backward` maps their gradients, undefined for a result
// that nothing uses, to those of the inputs.
std::vector<Tensor> record_all(std::string_view op, std::vector<Tensor> results,
                               const std::vector<Tensor>& inputs,
                               std::function<Gradients(const Gradients& g)> backward);
// For an op that has no backward: throws if an input needs a gradient while gradients are recorded.
void refuse_gradients(std::string_view op, const std::vector<Tensor>& inputs);

}  // namespace mullion
