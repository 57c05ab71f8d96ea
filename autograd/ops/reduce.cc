// Sums and means. The gradient of a sum is the gradient of the result, repeated.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {
Tensor reduced(std::string_view op, const Tensor& x, int axis, bool keep_axis, bool mean) {
  const OpScope scope(op);
  check_axis(op, x, axis);
  const int a = axis < 0 ? axis + x.rank() : axis;
  const double alpha = mean ? 1.0 / static_cast<double>(x.shape()[a]) : 1.0;
  Tensor y = sum_axis(x, a, alpha);
  if (!keep_axis) {
    Shape shape;
    for (int i = 0; i < x.rank(); ++i)
      if (i != a) shape.push_back(x.shape()[i]);
    y = raw::reshape(y, shape);
  }
  return record(op, y, {x}, [shape = x.shape(), a, alpha](const Tensor& g) -> Gradients {
    Shape kept = shape;
    kept[a] = 1;
    const Tensor part = alpha == 1.0 ? g : scaled(g, alpha);
    return {raw::expand(raw::reshape(part, kept), shape)};
  });
}
}  // namespace

Tensor sum(const Tensor& x, int axis, bool keep_axis) {
  return reduced("sum", x, axis, keep_axis, false);
}
Tensor mean(const Tensor& x, int axis, bool keep_axis) {
  return reduced("mean", x, axis, keep_axis, true);
}
Tensor sum(const Tensor& x) { return sum(reshape(x, {x.numel()}), 0); }

}  // namespace mullion
