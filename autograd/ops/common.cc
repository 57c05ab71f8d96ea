// Each allocates its result, calls one kernel and returns.
#include "autograd/ops/common.h"

#include "autograd/engine.h"
#include "tensor/precision.h"

namespace mullion::detail {

std::vector<Tensor> empty_parts(const std::vector<Shape>& shapes, DType dtype, Device device) {
  int64_t count = 0;
  for (const Shape& shape : shapes) count += shape.numel();
  const std::shared_ptr<Storage> block = Tensor::empty({count}, dtype, device).impl().storage;
  std::vector<Tensor> parts;
  int64_t first = 0;
  for (const Shape& shape : shapes) {
    auto impl = std::make_shared<Tensor::Impl>();
    // Its own count of owners; the block is freed with the last part.
    impl->storage = std::shared_ptr<Storage>(block.get(), [block](Storage*) {});
    impl->shape = shape;
    impl->strides = shape.strides();
    impl->offset = first;
    impl->dtype = dtype;
    first += shape.numel();
    parts.emplace_back(std::move(impl));
  }
  return parts;
}

Tensor scaled(const Tensor& x, double alpha, double beta) {
  const Tensor dense = raw::contiguous(x);
  const Tensor y = empty_like(dense);
  table(x).affine({.x = dense.data<void>(),
                   .y = y.data<void>(),
                   .dtype = x.dtype(),
                   .n = x.numel(),
                   .alpha = alpha,
                   .beta = beta});
  return y;
}

Tensor sum_axis(const Tensor& x, int axis, double alpha, bool exact) {
  const Tensor dense = raw::contiguous(x);
  Shape shape = x.shape();
  int64_t outer = 1, inner = 1;
  for (int a = 0; a < axis; ++a) outer *= shape[a];
  for (int a = axis + 1; a < shape.rank(); ++a) inner *= shape[a];
  const int64_t reduced = shape[axis];
  shape[axis] = 1;
  const Tensor y = exact ? empty_exact(shape, x) : empty(shape, x);
  table(x).sum_axis({.x = dense.data<void>(),
                     .y = y.data<void>(),
                     .dtype = x.dtype(),
                     .outer = outer,
                     .reduced = reduced,
                     .inner = inner,
                     .alpha = alpha,
                     .exact = exact});
  return y;
}

Tensor sum_to_shape(const Tensor& g, const Shape& shape) {
  if (g.shape() == shape) return g;
  const int added = g.rank() - shape.rank();
  Tensor result = g;
  // Neighbouring repeated axes at the front are one long axis: sum them in one pass.
  int64_t leading = 1;
  for (int axis = 0; axis < added; ++axis) leading *= g.shape()[axis];
  if (added > 0) {
    Shape rest{leading};
    for (int64_t size : shape) rest.push_back(size);
    for (int axis = 0; axis < shape.rank(); ++axis) rest[axis + 1] = g.shape()[axis + added];
    result = sum_axis(raw::reshape(result, rest), 0);
    Shape without;
    for (int axis = 1; axis < rest.rank(); ++axis) without.push_back(rest[axis]);
    result = raw::reshape(result, without);
  }
  for (int axis = 0; axis < shape.rank(); ++axis)
    if (shape[axis] == 1 && result.shape()[axis] != 1) result = sum_axis(result, axis);
  return result;
}

Tensor broadcast_binary(std::string_view op, int index, const Tensor& a, const Tensor& b) {
  check_same_dtype(op, a, b);
  check_same_device(op, a, b);
  const int rank = std::max(a.rank(), b.rank());
  Shape shape;
  for (int axis = 0; axis < rank; ++axis) {
    const int ia = axis - (rank - a.rank()), ib = axis - (rank - b.rank());
    const int64_t na = ia >= 0 ? a.shape()[ia] : 1, nb = ib >= 0 ? b.shape()[ib] : 1;
    CHECK(na == nb || na == 1 || nb == 1, op, ": shapes ", a.shape(), " and ", b.shape(),
          " do not broadcast");
    shape.push_back(na == 1 ? nb : na);
  }
  const Tensor wide_a = raw::expand(a, shape), wide_b = raw::expand(b, shape);
  const Tensor y = empty(shape, a);
  table(a).binary[index]({.a = wide_a.data<void>(),
                          .b = wide_b.data<void>(),
                          .y = y.data<void>(),
                          .dtype = a.dtype(),
                          .shape = shape,
                          .a_strides = wide_a.strides(),
                          .b_strides = wide_b.strides()});
  return y;
}

Tensor integers_beside(std::string_view op, const Tensor& integers, const Tensor& like) {
  if (integers.device().type != DeviceType::cpu) check_same_device(op, integers, like);
  return raw::contiguous(raw::to_device(integers, like.device()));
}

RandomStream random_stream(std::string_view op, const Tensor& stream, const Tensor& like) {
  CHECK(stream.dtype() == DType::i64 && stream.numel() == 1, op, ": a stream of shape ",
        stream.shape(), " and type ", name_of(stream.dtype()), ", expected one i64");
  if (stream.device().type == DeviceType::cpu) {
    const int64_t* number = stream.data<int64_t>();
    return {static_cast<uint64_t>(*number), {}};
  }
  check_same_device(op, like, stream);
  return {0, detached(stream)};
}

Tensor random_mask(Shape shape, const Tensor& like, double p, double kept, uint64_t seed,
                   const RandomStream& stream) {
  const Tensor mask = empty(shape, like);
  table(like).random({.kind = RandomArgs::Kind::bernoulli,
                      .y = mask.data<void>(),
                      .dtype = like.dtype(),
                      .n = mask.numel(),
                      .a = 1 - p,
                      .b = kept,
                      .seed = seed,
                      .stream = stream.number,
                      .stream_at = stream.at.defined() ? stream.at.data<int64_t>() : nullptr});
  return mask;
}

Tensor scaled_by(const Tensor& d, const Tensor& g, double factor) {
  if (is_one(g)) return factor == 1.0 ? d : scaled(d, factor);
  if (g.device().type == DeviceType::cpu) return scaled(d, factor * g.item());
  const Tensor by = raw::cast(raw::reshape(factor == 1.0 ? g : scaled(g, factor), {}), d.dtype());
  return broadcast_binary("scaled_by", BinaryOps::Mul, d, by);
}

void check_axis(std::string_view op, const Tensor& x, int axis) {
  CHECK(axis >= -x.rank() && axis < x.rank(), op, ": axis ", axis, " of shape ", x.shape());
}

void check_weight_type(std::string_view op, const Tensor& x, const Weight& given) {
  if (given.is_blocks()) {
    const Device device = x.device();
    CHECK(is_float(x.dtype()) && x.dtype() != DType::f16, op, ": rows of ", name_of(x.dtype()),
          " beside a weight of ", name_of(given.blocks().type()), " on ", name_of(device));
    return;
  }
  const Tensor& weight = given.tensor();
  const auto mixes = [](const Tensor& t) {
    return t.dtype() == DType::f32 || t.dtype() == DType::bf16;
  };
  if (!mixes(x) || !mixes(weight)) check_same_dtype(op, x, weight);
  CHECK(weight.dtype() != DType::bf16 || !requires_grad(weight), op,
        ": a bf16 weight cannot be trained; load it as f32");
}

void check_weight(std::string_view op, const Tensor& x, const Weight& weight) {
  CHECK(weight.rank() == 2, op, ": a weight of shape ", weight.shape(), ", expected (out, in)");
  CHECK(x.rank() >= 1 && x.dim(-1) == weight.dim(1), op, ": input of shape ", x.shape(),
        " for a weight of shape ", weight.shape());
  check_same_device(op, x, weight.is_blocks() ? weight.blocks().bytes() : weight.tensor());
  check_weight_type(op, x, weight);
}

Tensor residual_of(std::string_view op, const Tensor& residual, const Tensor& x, int64_t out) {
  if (!residual.defined()) return {};
  check_same_dtype(op, x, residual);
  check_same_device(op, x, residual);
  CHECK(residual.shape() == with_last(x.shape(), out), op, ": a residual of shape ",
        residual.shape(), " for a result of shape ", with_last(x.shape(), out));
  return raw::contiguous(residual);
}

namespace {
// Between stored rows; a single row may have any.
int64_t row_distance(const Tensor& x) {
  DCHECK(x.dim(-1) <= 1 || x.strides()[x.rank() - 1] == 1);
  return x.dim(-2) > 1 ? x.strides()[x.rank() - 2] : x.dim(-1);
}
}  // namespace

void multiply(const Tensor& a, const Tensor& b, const Tensor& c, Product how) {
  DCHECK((c.rank() == 2 || c.rank() == 3) && a.rank() == c.rank() && b.rank() == c.rank());
  const int64_t m = how.transpose_a ? a.dim(-1) : a.dim(-2),
                k = how.transpose_a ? a.dim(-2) : a.dim(-1);
  const int64_t n = how.transpose_b ? b.dim(-2) : b.dim(-1);
  DCHECK(k == (how.transpose_b ? b.dim(-1) : b.dim(-2)) && c.dim(-2) == m && c.dim(-1) == n);
  const int64_t batch = c.rank() == 3 ? c.dim(0) : 1;
  const auto distance = [&](const Tensor& x) { return batch > 1 ? x.strides()[0] : 0; };
  table(a).matmul({.a = a.data<void>(),
                   .b = b.data<void>(),
                   .c = c.data<void>(),
                   .bias = how.bias,
                   .a_type = a.dtype(),
                   .b_type = b.dtype(),
                   .c_type = c.dtype(),
                   .batch = batch,
                   .m = m,
                   .n = n,
                   .k = k,
                   .transpose_a = how.transpose_a,
                   .transpose_b = how.transpose_b,
                   .lda = row_distance(a),
                   .ldb = row_distance(b),
                   .ldc = row_distance(c),
                   .stride_a = distance(a),
                   .stride_b = distance(b),
                   .stride_c = distance(c),
                   .alpha = how.alpha,
                   .beta = how.beta,
                   .allow_bf16 = product_precision().bf16,
                   .allow_tf32 = product_precision().tf32,
                   .residual = how.residual,
                   .gelu = how.gelu,
                   .before_gelu = how.before_gelu});
}

Weight kept(const Weight& w) {
  return w.is_blocks() ? w : Weight(detached(raw::contiguous(w.tensor())));
}

namespace {
void multiply_blocks(const Tensor& x, const BlockMatrix& w, const Tensor& y, bool backward,
                     const WeightProduct& how) {
  DCHECK(x.is_contiguous() && y.is_contiguous());
  table(x).block_matmul({.x = x.data<void>(),
                         .blocks = w.bytes().data<void>(),
                         .y = y.data<void>(),
                         .bias = how.bias,
                         .residual = how.residual,
                         .type = w.type(),
                         .dtype = x.dtype(),
                         .m = x.dim(0),
                         .rows = w.rows(),
                         .width = w.width(),
                         .backward = backward,
                         .alpha = how.alpha,
                         .beta = how.beta,
                         .allow_tf32 = product_precision().tf32});
}
}  // namespace

void times_weight(const Tensor& x, const Weight& w, const Tensor& y, WeightProduct how) {
  if (w.is_blocks()) return multiply_blocks(x, w.blocks(), y, false, how);
  multiply(x, w.tensor(), y,
           {.transpose_b = true,
            .alpha = how.alpha,
            .beta = how.beta,
            .bias = how.bias,
            .residual = how.residual});
}

void back_through_weight(const Tensor& g, const Weight& w, const Tensor& dx, WeightProduct how) {
  if (w.is_blocks()) return multiply_blocks(g, w.blocks(), dx, true, how);
  multiply(g, w.tensor(), dx, {.alpha = how.alpha, .beta = how.beta});
}

}  // namespace mullion::detail
