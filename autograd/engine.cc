// (Read node.h before; ops/norm.cc next.)
//
// Nodes are visited in the reverse order of their making: whoever uses a tensor was made after it,
// so a node is reached only when its whole gradient has been summed. The order is fixed, so the
// sums are the same bits in every run.
#include "autograd/engine.h"

#include <map>
#include <utility>

#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"

namespace mullion {
namespace {

thread_local const LeafWatch::OnGradient* watch = nullptr;
thread_local Tensor one;  // of the pass under way; undefined where it began with another gradient

// A pass may run inside another one (autograd/activation_checkpoint.h).
class Start {
 public:
  explicit Start(const Tensor& start) : before_(std::exchange(one, start)) {}
  ~Start() { one = std::move(before_); }
  Start(const Start&) = delete;
  Start& operator=(const Start&) = delete;

 private:
  Tensor before_;
};

// What goes wrong inside is reported with the op: a kernel's name need not say whose backward it
// was. `recorded` is the op's number, where its closure runs: what that reads must be as it was
// then.
template <typename F>
auto in_backward_of(std::string_view op, uint64_t recorded, F f) {
  const OpScope scope(op, true, recorded);
  try {
    return f();
  } catch (const Error& error) {
    throw error.in("backward of " + std::string(op));
  }
}

void accumulate(GradData& data, const Tensor& g, std::string_view op) {
  CHECK(g.shape() == data.shape, op, ": its backward gave a gradient of shape ", g.shape(),
        " for an input of shape ", data.shape);
  CHECK(g.dtype() == data.dtype, op, ": its backward gave a gradient of type ", name_of(g.dtype()),
        " for an input of type ", name_of(data.dtype));
  if (!data.grad.defined()) {
    data.grad = g;
    return;
  }
  in_backward_of(op, 0, [&] {
    // The sum goes in place only where nobody else can see the first part.
    if (!data.grad.is_sole_owner() || !data.grad.is_contiguous()) data.grad = raw::clone(data.grad);
    const Tensor dense = raw::contiguous(g);
    kernels(g.device())
        .accumulate({.x = dense.data<void>(),
                     .y = data.grad.data<void>(),
                     .dtype = g.dtype(),
                     .n = g.numel(),
                     .alpha = 1.0});
  });
}

}  // namespace

LeafWatch::LeafWatch(OnGradient on_gradient)
    : on_gradient_(std::move(on_gradient)), before_(std::exchange(watch, &on_gradient_)) {}
LeafWatch::~LeafWatch() { watch = before_; }

bool is_one(const Tensor& g) { return one.defined() && one.is_same(g); }

void backward(const Tensor& y, const Tensor& g) {
  CHECK(requires_grad(y), "backward: nothing below the tensor needs a gradient");
  CHECK(g.defined() || y.numel() == 1, "backward: a tensor of shape ", y.shape(),
        " needs the gradient to start from");
  NoGrad no_grad;
  const Tensor start = g.defined() ? g : Tensor::full(y.shape(), 1.0, y.dtype(), y.device());
  const Start guard(g.defined() ? Tensor() : start);
  std::map<uint64_t, std::shared_ptr<GradData>, std::greater<>> waiting;
  accumulate(*y.grad_data(), start, "backward");
  if (y.grad_data()->node) waiting.emplace(y.grad_data()->node->sequence, y.grad_data());
  while (!waiting.empty()) {
    const std::shared_ptr<GradData> data = std::move(waiting.begin()->second);
    waiting.erase(waiting.begin());
    Node& node = *data->node;
    CHECK(node.backward, node.op, ": backward ran twice through the same graph");
    Gradients gradients = in_backward_of(node.op, node.sequence, [&] {
      const Tensor whole = raw::contiguous(data->grad);
      data->grad = Tensor();
      const BackwardFunction closure = std::move(node.backward);
      node.backward = nullptr;
      return closure(whole);
    });
    DCHECK(gradients.size() == node.edges.size());
    for (size_t i = 0; i < gradients.size(); ++i) {
      if (!node.edges[i] || !gradients[i].defined()) continue;
      accumulate(*node.edges[i], gradients[i], node.op);
      gradients[i] = Tensor();
      if (node.edges[i]->node)
        waiting.emplace(node.edges[i]->node->sequence, node.edges[i]);
      else if (watch)
        in_backward_of(node.op, 0, [&] { (*watch)(*node.edges[i]); });
    }
    node.edges.clear();
  }
}

}  // namespace mullion
