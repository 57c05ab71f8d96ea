// Recording: gradient data and nodes are made only where a gradient is needed.
#include "autograd/node.h"

#include "tensor/op_scope.h"

namespace mullion {
namespace {
thread_local bool recording = true;

bool any_requires_grad(const std::vector<Tensor>& inputs) {
  for (const Tensor& x : inputs)
    if (x.defined() && requires_grad(x)) return true;
  return false;
}

bool needs_backward(std::string_view op, const std::vector<Tensor>& inputs, bool has_backward) {
  if (!recording || !any_requires_grad(inputs)) return false;
  CHECK(has_backward, op, ": has no backward, but an input needs a gradient; give it detached() ",
        "inputs, or compute under NoGrad");
  return true;
}
}  // namespace

bool requires_grad(const Tensor& x) { return x.grad_data() && x.grad_data()->requires_grad; }

void set_requires_grad(const Tensor& x, bool on) {
  CHECK(!on || is_float(x.dtype()), "requires_grad: elements of type ", name_of(x.dtype()),
        " have no gradient");
  auto& data = x.grad_data();
  CHECK(!data || !data->node, "requires_grad: set on the result of ", data->node->op);
  if (!data && !on) return;
  if (!data) data = std::make_shared<GradData>();
  data->requires_grad = on;
  data->shape = x.shape();
  data->dtype = x.dtype();
  if (!on) data->grad = Tensor();
}

Tensor grad(const Tensor& x) { return x.grad_data() ? x.grad_data()->grad : Tensor(); }

void clear_grad(const Tensor& x) {
  if (x.grad_data()) x.grad_data()->grad = Tensor();
}

Tensor detached(const Tensor& x) {
  auto impl = std::make_shared<Tensor::Impl>(x.impl());
  impl->grad_data = nullptr;
  return Tensor(std::move(impl));
}

bool grad_enabled() { return recording; }
NoGrad::NoGrad() : before_(recording) { recording = false; }
NoGrad::~NoGrad() { recording = before_; }
EnableGrad::EnableGrad() : before_(recording) { recording = true; }
EnableGrad::~EnableGrad() { recording = before_; }

Tensor record(std::string_view op, Tensor y, const std::vector<Tensor>& inputs,
              BackwardFunction backward) {
  if (!needs_backward(op, inputs, static_cast<bool>(backward))) return y;
  auto node = std::make_shared<Node>();
  node->op = op;
  node->sequence = OpClock::tick();
  node->backward = std::move(backward);
  for (const Tensor& x : inputs)
    node->edges.push_back(x.defined() && requires_grad(x) ? x.grad_data() : nullptr);
  auto data = std::make_shared<GradData>();
  data->requires_grad = true;
  data->shape = y.shape();
  data->dtype = y.dtype();
  data->node = std::move(node);
  if (!y.is_sole_owner()) y = detached(y);  // a view or an input handed through
  y.grad_data() = std::move(data);
  return y;
}

// One node for the op, whose result has no elements, and above it one a result, which are younger
// and so visited before it: each puts its gradient where the op's finds it.
std::vector<Tensor> record_all(std::string_view op, std::vector<Tensor> results,
                               const std::vector<Tensor>& inputs,
                               std::function<Gradients(const Gradients& g)> backward) {
  if (!needs_backward(op, inputs, static_cast<bool>(backward))) return results;
  const auto collected = std::make_shared<Gradients>(results.size());
  const Tensor hub = record(op, Tensor::empty({0}), inputs,
                            [collected, backward = std::move(backward)](
                                const Tensor&) -> Gradients { return backward(*collected); });
  for (size_t i = 0; i < results.size(); ++i)
    results[i] =
        record(op, std::move(results[i]), {hub}, [collected, i](const Tensor& g) -> Gradients {
          (*collected)[i] = g;
          return {Tensor::empty({0})};
        });
  return results;
}

void refuse_gradients(std::string_view op, const std::vector<Tensor>& inputs) {
  needs_backward(op, inputs, false);
}

}  // namespace mullion
