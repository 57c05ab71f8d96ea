// Ops that rearrange elements. Views share the bytes of their input; their backward rearranges the
// gradient the other way.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

Tensor reshape(const Tensor& x, Shape shape) {
  const OpScope scope("reshape");
  return record(
      "reshape", raw::reshape(x, shape), {x},
      [before = x.shape()](const Tensor& g) -> Gradients { return {raw::reshape(g, before)}; });
}

Tensor permute(const Tensor& x, const std::vector<int>& axes) {
  const OpScope scope("permute");
  std::vector<int> inverse(axes.size());
  const Tensor y = raw::permute(x, axes);
  for (size_t i = 0; i < axes.size(); ++i)
    inverse[static_cast<size_t>((axes[i] + x.rank()) % x.rank())] = static_cast<int>(i);
  return record("permute", y, {x},
                [inverse](const Tensor& g) -> Gradients { return {raw::permute(g, inverse)}; });
}

// dx is zero outside the slice.
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  const OpScope scope("slice");
  check_axis("slice", x, axis);
  return record("slice", raw::slice(x, axis, begin, end), {x},
                [shape = x.shape(), axis, begin, end](const Tensor& g) -> Gradients {
                  const Tensor dx = Tensor::zeros(shape, g.dtype(), g.device());
                  raw::copy_into(g, raw::slice(dx, axis, begin, end));
                  return {dx};
                });
}

Tensor concat(const std::vector<Tensor>& parts, int axis) {
  const OpScope scope("concat");
  CHECK(!parts.empty(), "concat: no tensors");
  Shape shape = parts[0].shape();
  const int a = axis < 0 ? axis + shape.rank() : axis;
  CHECK(a >= 0 && a < shape.rank(), "concat: axis ", axis, " of shape ", shape);
  shape[a] = 0;
  for (const Tensor& part : parts) {
    check_same_dtype("concat", parts[0], part);
    CHECK(part.rank() == shape.rank(), "concat: shapes ", parts[0].shape(), " and ", part.shape());
    for (int i = 0; i < shape.rank(); ++i)
      CHECK(i == a || part.shape()[i] == shape[i], "concat: shapes ", parts[0].shape(), " and ",
            part.shape(), " along axis ", a);
    shape[a] += part.shape()[a];
  }
  const Tensor y = empty(shape, parts[0]);
  std::vector<int64_t> bounds{0};
  for (const Tensor& part : parts) {
    bounds.push_back(bounds.back() + part.shape()[a]);
    raw::copy_into(part, raw::slice(y, a, bounds[bounds.size() - 2], bounds.back()));
  }
  return record("concat", y, parts, [bounds, a](const Tensor& g) -> Gradients {
    Gradients result;
    for (size_t i = 0; i + 1 < bounds.size(); ++i)
      result.push_back(raw::slice(g, a, bounds[i], bounds[i + 1]));
    return result;
  });
}

namespace {
Tensor rolled(const Tensor& x, int axis, int64_t shift) {
  const int64_t n = x.dim(axis);
  const int64_t s = n ? ((shift % n) + n) % n : 0;
  if (s == 0) return raw::clone(x);
  const Tensor y = empty_like(x);
  raw::copy_into(raw::slice(x, axis, 0, n - s), raw::slice(y, axis, s, n));
  raw::copy_into(raw::slice(x, axis, n - s, n), raw::slice(y, axis, 0, s));
  return y;
}
}  // namespace

Tensor roll(const Tensor& x, int axis, int64_t shift) {
  const OpScope scope("roll");
  check_axis("roll", x, axis);
  return record("roll", rolled(x, axis, shift), {x},
                [axis, shift](const Tensor& g) -> Gradients { return {rolled(g, axis, -shift)}; });
}

Tensor cast(const Tensor& x, DType dtype) {
  const OpScope scope("cast");
  CHECK(is_float(x.dtype()) && is_float(dtype), "cast: from ", name_of(x.dtype()), " to ",
        name_of(dtype), ", expected floating-point types");
  return record("cast", raw::cast(x, dtype), {x},
                [from = x.dtype()](const Tensor& g) -> Gradients { return {raw::cast(g, from)}; });
}

}  // namespace mullion
