// (Read ../engine.cc before; models/llama/model.cc next.)
//
// Normalisations, softmax and the rotary embedding, each one fused kernel forward and backward.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {
void check_row_parameter(std::string_view op, const Tensor& x, const Tensor& parameter) {
  CHECK(x.rank() >= 1 && parameter.rank() == 1 && parameter.dim(0) == x.dim(-1), op,
        ": a parameter of shape ", parameter.shape(), " for rows of shape ", x.shape());
  check_exact_dtype(op, x, parameter);
  check_same_device(op, x, parameter);
}
}  // namespace

// y = x r w, r = rsqrt(mean(x^2) + eps): with n = x r and u = g w,
// dx = r (u - n mean(u n)), dw = sum over rows of g n
Tensor rms_norm(const Tensor& x_in, const Tensor& weight, double eps) {
  const OpScope scope("rms_norm");
  check_row_parameter("rms_norm", x_in, weight);
  const Tensor x = raw::contiguous(x_in), w = raw::contiguous(weight);
  const int64_t rows = rows_of(x), width = x.dim(-1);
  const Tensor y = empty_like(x), rstd = empty_exact({rows}, x);
  table(x).rms_norm({.x = x.data<void>(),
                     .weight = w.data<void>(),
                     .y = y.data<void>(),
                     .rstd = rstd.data<void>(),
                     .dtype = x.dtype(),
                     .rows = rows,
                     .width = width,
                     .eps = eps});
  return record("rms_norm", y, {x_in, weight},
                [x = detached(x), w = detached(w), rstd, need_x = requires_grad(x_in),
                 need_w = requires_grad(weight), rows, width](const Tensor& g) -> Gradients {
                  Gradients result(2);
                  if (need_x) result[0] = empty_like(x);
                  if (need_w) result[1] = empty_like(w);
                  table(x).rms_norm_backward({.x = x.data<void>(),
                                              .weight = w.data<void>(),
                                              .rstd = rstd.data<void>(),
                                              .g = g.data<void>(),
                                              .dx = need_x ? result[0].data<void>() : nullptr,
                                              .dweight = need_w ? result[1].data<void>() : nullptr,
                                              .dtype = x.dtype(),
                                              .rows = rows,
                                              .width = width});
                  return result;
                });
}

// y = n w + b, n = (x - mean) r: with u = g w, dx = r (u - mean(u) - n mean(u n)),
// dw = sum over rows of g n, db = sum over rows of g
Tensor layer_norm(const Tensor& x_in, const Tensor& weight, const Tensor& bias, double eps) {
  const OpScope scope("layer_norm");
  check_row_parameter("layer_norm", x_in, weight);
  check_row_parameter("layer_norm", x_in, bias);
  const Tensor x = raw::contiguous(x_in), w = raw::contiguous(weight), b = raw::contiguous(bias);
  const int64_t rows = rows_of(x), width = x.dim(-1);
  const Tensor y = empty_like(x), mean = empty_exact({rows}, x), rstd = empty_exact({rows}, x);
  table(x).layer_norm({.x = x.data<void>(),
                       .weight = w.data<void>(),
                       .bias = b.data<void>(),
                       .y = y.data<void>(),
                       .mean = mean.data<void>(),
                       .rstd = rstd.data<void>(),
                       .dtype = x.dtype(),
                       .rows = rows,
                       .width = width,
                       .eps = eps});
  return record(
      "layer_norm", y, {x_in, weight, bias},
      [x = detached(x), w = detached(w), mean, rstd, need_x = requires_grad(x_in),
       need_w = requires_grad(weight), need_b = requires_grad(bias), rows,
       width](const Tensor& g) -> Gradients {
        Gradients result(3);
        if (need_x) result[0] = empty_like(x);
        if (need_w) result[1] = empty_like(w);
        if (need_b) result[2] = empty_like(w);
        table(x).layer_norm_backward({.x = x.data<void>(),
                                      .weight = w.data<void>(),
                                      .mean = mean.data<void>(),
                                      .rstd = rstd.data<void>(),
                                      .g = g.data<void>(),
                                      .dx = need_x ? result[0].data<void>() : nullptr,
                                      .dweight = need_w ? result[1].data<void>() : nullptr,
                                      .dbias = need_b ? result[2].data<void>() : nullptr,
                                      .dtype = x.dtype(),
                                      .rows = rows,
                                      .width = width});
        return result;
      });
}

// dx = y (g - sum(g y))
Tensor softmax(const Tensor& x_in) {
  const OpScope scope("softmax");
  const Tensor x = raw::contiguous(x_in);
  CHECK(x.rank() >= 1 && x.dim(-1) > 0, "softmax: rows of shape ", x.shape());
  const Tensor y = empty_like(x);
  table(x).softmax({.x = x.data<void>(),
                    .y = y.data<void>(),
                    .dtype = x.dtype(),
                    .rows = rows_of(x),
                    .width = x.dim(-1)});
  return record("softmax", y, {x_in}, [y = detached(y)](const Tensor& g) -> Gradients {
    const Tensor dx = empty_like(y);
    table(y).softmax_backward({.y = y.data<void>(),
                               .g = g.data<void>(),
                               .dx = dx.data<void>(),
                               .dtype = y.dtype(),
                               .rows = rows_of(y),
                               .width = y.dim(-1)});
    return {dx};
  });
}

// A rotation: its transpose is the rotation by the negated angle.
namespace {
Tensor turned(std::string_view op, const Tensor& x_in, const Tensor& cos, const Tensor& sin,
              bool in_place) {
  const OpScope scope(op);
  const auto [B, T, H, D] = dims<4>(op, "x", x_in);
  CHECK(D % 2 == 0, op, ": head width ", D, " is odd");
  CHECK(cos.shape() == (Shape{T, D / 2}) && sin.shape() == cos.shape(), op, ": tables of shape ",
        cos.shape(), " and ", sin.shape(), " for x of shape ", x_in.shape());
  check_exact_dtype(op, x_in, cos);
  check_exact_dtype(op, x_in, sin);
  const Tensor c = raw::contiguous(cos), s = raw::contiguous(sin);
  const auto turn = [c, s](const Tensor& x, const Tensor& y, bool inverse) {
    table(x).rope({.x = x.data<void>(),
                   .cos = c.data<void>(),
                   .sin = s.data<void>(),
                   .y = y.data<void>(),
                   .dtype = x.dtype(),
                   .batch = x.dim(0),
                   .tokens = x.dim(1),
                   .heads = x.dim(2),
                   .head_dim = x.dim(3),
                   .inverse = inverse});
    return y;
  };
  const Tensor x = detached(raw::contiguous(x_in));
  return record(op, turn(x, in_place ? x : empty_like(x), false), {x_in},
                [turn](const Tensor& g) -> Gradients {
                  return {turn(g, g.is_sole_owner() ? g : empty_like(g), true)};
                });
}
}  // namespace

Tensor rope(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return turned("rope", x, cos, sin, false);
}
Tensor rope_in_place(const Tensor& x, const Tensor& cos, const Tensor& sin) {
  return turned("rope_in_place", x, cos, sin, true);
}

}  // namespace mullion
