// Random masks. The mask is a function of (seed, stream), so the backward makes it again instead of
// keeping it.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// y = x m, dx = g m
Tensor masked(std::string_view op, const Tensor& x, Shape mask_shape, double p, uint64_t seed,
              const RandomStream& stream) {
  const OpScope scope(op);
  CHECK(p >= 0 && p < 1, op, ": probability ", p, ", expected at least 0 and below 1");
  if (p == 0) return x;
  const auto apply = [mask_shape, p, seed, stream, op](const Tensor& value) {
    return broadcast_binary(op, BinaryOps::Mul, value,
                            random_mask(mask_shape, value, p, 1 / (1 - p), seed, stream));
  };
  return record(op, apply(x), {x}, [apply](const Tensor& g) -> Gradients { return {apply(g)}; });
}

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  return masked("dropout", x, x.shape(), p, seed, {stream, {}});
}

Tensor drop_path(const Tensor& x, double p, uint64_t seed, const Tensor& stream) {
  Shape shape = x.shape();
  for (int axis = 1; axis < shape.rank(); ++axis) shape[axis] = 1;
  return masked("drop_path", x, shape, p, seed, random_stream("drop_path", stream, x));
}

}  // namespace mullion
