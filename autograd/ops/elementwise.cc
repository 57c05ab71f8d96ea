// Elementwise ops. The formulas are the functors of tensor/elementwise.h; broadcasting inputs get
// their gradient by a sum over the axes along which they were repeated.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT: the op families are written in terms of these helpers

namespace {

// y = f(x); dx = g * f'(x), where f' may be written in terms of x or of y.
Tensor unary(std::string_view name, int op, const Tensor& input) {
  const OpScope scope(name);
  const Tensor x = raw::contiguous(input);
  const Tensor y = empty_like(x);
  table(x).unary[op](
      {.x = x.data<void>(), .y = y.data<void>(), .dtype = x.dtype(), .n = x.numel()});
  return record(name, y, {input},
                [op, x = detached(x), y = detached(y)](const Tensor& g) -> Gradients {
                  const Tensor dx = empty_like(x);
                  table(x).unary_backward[op]({.x = x.data<void>(),
                                               .y = y.data<void>(),
                                               .g = g.data<void>(),
                                               .dx = dx.data<void>(),
                                               .dtype = x.dtype(),
                                               .n = x.numel()});
                  return {dx};
                });
}

Tensor product(const Tensor& a, const Tensor& b) {
  return broadcast_binary("mul", BinaryOps::Mul, a, b);
}

}  // namespace

#define MULLION_UNARY_OP(name, Op) \
  Tensor name(const Tensor& x) { return unary(#name, UnaryOps::Op, x); }
MULLION_UNARY_OPS(MULLION_UNARY_OP)
#undef MULLION_UNARY_OP

// dx = alpha g
Tensor affine(const Tensor& x, double alpha, double beta) {
  const OpScope scope("affine");
  return record("affine", scaled(raw::contiguous(x), alpha, beta), {x},
                [alpha](const Tensor& g) -> Gradients { return {scaled(g, alpha)}; });
}

// da = g, db = g
Tensor add(const Tensor& a, const Tensor& b) {
  const OpScope scope("add");
  const Tensor y = broadcast_binary("add", BinaryOps::Add, a, b);
  return record(
      "add", y, {a, b},
      [sa = a.shape(), sb = b.shape(), need_a = requires_grad(a),
       need_b = requires_grad(b)](const Tensor& g) -> Gradients {
        return {need_a ? sum_to_shape(g, sa) : Tensor(), need_b ? sum_to_shape(g, sb) : Tensor()};
      });
}

// da = g, db = -g
Tensor sub(const Tensor& a, const Tensor& b) {
  const OpScope scope("sub");
  const Tensor y = broadcast_binary("sub", BinaryOps::Sub, a, b);
  return record("sub", y, {a, b},
                [sa = a.shape(), sb = b.shape(), need_a = requires_grad(a),
                 need_b = requires_grad(b)](const Tensor& g) -> Gradients {
                  return {need_a ? sum_to_shape(g, sa) : Tensor(),
                          need_b ? scaled(sum_to_shape(g, sb), -1) : Tensor()};
                });
}

// da = g b, db = g a
Tensor mul(const Tensor& a, const Tensor& b) {
  const OpScope scope("mul");
  const Tensor y = product(a, b);
  const Tensor kept_a = requires_grad(b) ? detached(a) : Tensor();
  const Tensor kept_b = requires_grad(a) ? detached(b) : Tensor();
  return record("mul", y, {a, b},
                [sa = a.shape(), sb = b.shape(), kept_a, kept_b](const Tensor& g) -> Gradients {
                  return {kept_b.defined() ? sum_to_shape(product(g, kept_b), sa) : Tensor(),
                          kept_a.defined() ? sum_to_shape(product(g, kept_a), sb) : Tensor()};
                });
}

// da = g / b, db = -g y / b
Tensor div(const Tensor& a, const Tensor& b) {
  const OpScope scope("div");
  const Tensor y = broadcast_binary("div", BinaryOps::Div, a, b);
  const Tensor kept_y = requires_grad(b) ? detached(y) : Tensor();
  return record("div", y, {a, b},
                [sa = a.shape(), sb = b.shape(), need_a = requires_grad(a), b = detached(b),
                 kept_y](const Tensor& g) -> Gradients {
                  const Tensor scaled_g = broadcast_binary("div", BinaryOps::Div, g, b);
                  Gradients result(2);
                  if (need_a) result[0] = sum_to_shape(scaled_g, sa);
                  if (kept_y.defined())
                    result[1] = scaled(sum_to_shape(product(scaled_g, kept_y), sb), -1);
                  return result;
                });
}

// y = silu(gate) up: dgate = g up silu'(gate), dup = g silu(gate)
Tensor swiglu(const Tensor& gate, const Tensor& up) {
  const OpScope scope("swiglu");
  check_same_shape("swiglu", gate, up);
  check_same_dtype("swiglu", gate, up);
  const Tensor a = raw::contiguous(gate), b = raw::contiguous(up);
  const Tensor y = empty_like(a);
  table(a).swiglu({.gate = a.data<void>(),
                   .up = b.data<void>(),
                   .y = y.data<void>(),
                   .dtype = a.dtype(),
                   .n = a.numel()});
  return record("swiglu", y, {gate, up},
                [a = detached(a), b = detached(b)](const Tensor& g) -> Gradients {
                  Gradients d = empty_parts({a.shape(), b.shape()}, a.dtype(), a.device());
                  table(a).swiglu_backward({.gate = a.data<void>(),
                                            .up = b.data<void>(),
                                            .g = g.data<void>(),
                                            .dgate = d[0].data<void>(),
                                            .dup = d[1].data<void>(),
                                            .dtype = a.dtype(),
                                            .n = a.numel()});
                  return d;
                });
}

}  // namespace mullion
