// What the op families share: calls of kernels on whole tensors. No gradients here.
#pragma once
#include "autograd/node.h"
#include "autograd/weight.h"
#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"

namespace mullion::detail {

inline Tensor empty_like(const Tensor& x) {
  return Tensor::empty(x.shape(), x.dtype(), x.device());
}
inline Tensor empty(Shape shape, const Tensor& like) {
  return Tensor::empty(shape, like.dtype(), like.device());
}
// Tensors without values, one after another in one block, each the owner of its part alone: so far
// as is_sole_owner() goes, the others do not exist.
std::vector<Tensor> empty_parts(const std::vector<Shape>& shapes, DType dtype, Device device);
// The type of what is one a row or one a column of x, and must be exact: f32 where x is bf16.
inline DType exact_type(const Tensor& x) {
  return x.dtype() == DType::bf16 ? DType::f32 : x.dtype();
}
inline Tensor empty_exact(Shape shape, const Tensor& x) {
  return Tensor::empty(shape, exact_type(x), x.device());
}
inline void check_exact_dtype(std::string_view op, const Tensor& x, const Tensor& exact) {
  CHECK(exact.dtype() == exact_type(x), op, ": ", name_of(exact.dtype()), " beside ",
        name_of(x.dtype()), " rows, which need ", name_of(exact_type(x)));
}
inline const KernelTable& table(const Tensor& x) { return kernels(x.device()); }

// The number of rows when the last axis is the row.
inline int64_t rows_of(const Tensor& x) {
  int64_t rows = 1;  // also of rows without elements
  for (int axis = 0; axis + 1 < x.rank(); ++axis) rows *= x.dim(axis);
  return rows;
}

// alpha * x + beta, contiguous.
Tensor scaled(const Tensor& x, double alpha, double beta = 0);
// x summed over one axis; `exact`: in f32 where x is bf16, as the gradient of a bias wants it.
Tensor sum_axis(const Tensor& x, int axis, double alpha = 1, bool exact = false);
// The gradient of a broadcast: g summed over the axes along which `shape` was repeated.
Tensor sum_to_shape(const Tensor& g, const Shape& shape);
// y = a op b with broadcasting.
Tensor broadcast_binary(std::string_view op, int index, const Tensor& a, const Tensor& b);

// Integers (ids, targets) on the device of `like`, contiguous. They may come on the CPU, where the
// caller has looked at them; those on a device are taken as looked at, because to read them back
// would be to wait.
Tensor integers_beside(std::string_view op, const Tensor& integers, const Tensor& like);
// The stream of a random op as its kernel takes it: a number, or its place on the device, where it
// is read when the kernel runs.
struct RandomStream {
  uint64_t number = 0;
  Tensor at = {};
};
// An i64 of one element, on the CPU or beside `like`.
RandomStream random_stream(std::string_view op, const Tensor& stream, const Tensor& like);
// `kept` with probability 1 - p, else 0.
Tensor random_mask(Shape shape, const Tensor& like, double p, double kept, uint64_t seed,
                   const RandomStream& stream);
// d * factor * g for the gradient g of a scalar, without reading g on the host.
Tensor scaled_by(const Tensor& d, const Tensor& g, double factor = 1);

// Whether a weight suits rows of x: the same type, or f32 and bf16 mixed (kernel_args/linear.h).
void check_weight_type(std::string_view op, const Tensor& x, const Weight& weight);
void check_axis(std::string_view op, const Tensor& x, int axis);  // may be negative
// x as a matrix of rows, and its shape with another last axis.
inline Tensor as_rows(const Tensor& x) { return raw::reshape(x, {rows_of(x), x.dim(-1)}); }
inline Shape with_last(Shape shape, int64_t last) {
  shape[shape.rank() - 1] = last;
  return shape;
}
void check_weight(std::string_view op, const Tensor& x, const Weight& weight);  // (out, in)
// The residual as a product takes it; undefined where there is none.
Tensor residual_of(std::string_view op, const Tensor& residual, const Tensor& x, int64_t out);
inline Elements<void> pointer(const Tensor& x) { return x.defined() ? x.data<void>() : nullptr; }

// c = alpha * op(a) op(b) + beta * c for matrices, or as many of them as the first of three axes
// says, whose rows are contiguous.
struct Product {
  bool transpose_a = false, transpose_b = false;
  double alpha = 1, beta = 0;
  const void* bias = nullptr;
  const void* residual = nullptr;  // of c's shape
  bool gelu = false;
  void* before_gelu = nullptr;  // of c's shape, or null
};
void multiply(const Tensor& a, const Tensor& b, const Tensor& c, Product how = {});

// Products with a weight of a layer, on rows: y = alpha x W^T + beta y (+ bias, residual), and
// dx = alpha g W + beta dx. All are contiguous.
struct WeightProduct {
  double alpha = 1, beta = 0;
  const void* bias = nullptr;
  const void* residual = nullptr;
};
void times_weight(const Tensor& x, const Weight& w, const Tensor& y, WeightProduct how = {});
void back_through_weight(const Tensor& g, const Weight& w, const Tensor& dx,
                         WeightProduct how = {});
// W as a closure keeps it: contiguous, without part in gradients.
Weight kept(const Weight& w);

}  // namespace mullion::detail
