// Random masks. The mask is a function of (seed, stream), so the backward makes it again instead of
// keeping it.
#include "autograd/ops.h"
#include "autograd/ops/common.h"

namespace mullion {
using namespace detail;  // NOLINT

namespace {

// The stream as the kernel takes it: a number, or its place on the device.
struct Stream {
  uint64_t number = 0;
  Tensor at;
};

// 1 / (1 - p) with probability 1 - p, else 0.
Tensor keep_mask(Shape shape, const Tensor& like, double p, uint64_t seed, const Stream& stream) {
  const Tensor mask = empty(shape, like);
  table(like).random({RandomArgs::Kind::bernoulli, mask.data<void>(), like.dtype(), mask.numel(),
                      1 - p, 1 / (1 - p), seed, stream.number,
                      stream.at.defined() ? stream.at.data<int64_t>() : nullptr});
  return mask;
}

// y = x m, dx = g m
Tensor masked(std::string_view op, const Tensor& x, Shape mask_shape, double p, uint64_t seed,
              const Stream& stream) {
  const OpScope scope(op);
  CHECK(p >= 0 && p < 1, op, ": probability ", p, ", expected at least 0 and below 1");
  if (p == 0) return x;
  const auto apply = [mask_shape, p, seed, stream, op](const Tensor& value) {
    return broadcast_binary(op, BinaryOps::index_of<Mul>(), value,
                            keep_mask(mask_shape, value, p, seed, stream));
  };
  return record(op, apply(x), {x}, [apply](const Tensor& g) -> Gradients { return {apply(g)}; });
}

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  return masked("dropout", x, x.shape(), p, seed, {stream, {}});
}

Tensor drop_path(const Tensor& x, double p, uint64_t seed, const Tensor& stream) {
  CHECK(stream.dtype() == DType::i64 && stream.numel() == 1, "drop_path: a stream of shape ",
        stream.shape(), " and type ", name_of(stream.dtype()), ", expected one i64");
  Shape shape = x.shape();
  for (int axis = 1; axis < shape.rank(); ++axis) shape[axis] = 1;
  if (stream.device().type == DeviceType::cpu) {
    const int64_t* number = stream.data<int64_t>();
    return masked("drop_path", x, shape, p, seed, {static_cast<uint64_t>(*number), {}});
  }
  check_same_device("drop_path", x, stream);
  return masked("drop_path", x, shape, p, seed, {0, detached(stream)});
}

}  // namespace mullion
