// Tensor: the one tensor type. A handle of 16 bytes on Storage x Layout x DType; copying a handle
// shares the elements. Eager: every function returns with its result computed, or, on a device with
// a queue, with its computation queued; who reads elements on the host (item, to_vector,
// to_device) waits for them.
//
// This layer knows of gradients only the pointer `grad_data`, which autograd/ fills. The functions
// in namespace raw are views without gradients; model code uses the differentiable ops of
// autograd/ops.h instead.
#pragma once
#include <array>
#include <memory>
#include <vector>

#include "tensor/dtype.h"
#include "tensor/shape.h"
#include "tensor/storage.h"

namespace mullion {

struct GradData;  // autograd/node.h
template <typename T>
class Elements;

template <typename T>
constexpr DType dtype_of();
template <>
constexpr DType dtype_of<float>() {
  return DType::f32;
}
template <>
constexpr DType dtype_of<double>() {
  return DType::f64;
}
template <>
constexpr DType dtype_of<bf16>() {
  return DType::bf16;
}
template <>
constexpr DType dtype_of<f16>() {
  return DType::f16;
}
template <>
constexpr DType dtype_of<int32_t>() {
  return DType::i32;
}
template <>
constexpr DType dtype_of<int64_t>() {
  return DType::i64;
}
template <>
constexpr DType dtype_of<uint8_t>() {
  return DType::u8;
}
template <>
constexpr DType dtype_of<bool>() {
  return DType::boolean;
}

class Tensor {
 public:
  Tensor() = default;  // undefined: no elements, no shape
  static Tensor empty(Shape shape, DType dtype = DType::f32, Device device = {});
  static Tensor zeros(Shape shape, DType dtype = DType::f32, Device device = {});
  static Tensor full(Shape shape, double value, DType dtype = DType::f32, Device device = {});
  // The given elements, in row-major order.
  template <typename T>
  static Tensor from(std::span<const T> values, Shape shape, Device device = {});
  template <typename T>
  static Tensor from(const std::vector<T>& values, Shape shape, Device device = {}) {
    return from(std::span<const T>(values), shape, device);
  }

  bool defined() const { return impl_ != nullptr; }
  const Shape& shape() const { return impl().shape; }
  const Shape& strides() const { return impl().strides; }  // in elements
  int rank() const { return shape().rank(); }
  int64_t dim(int axis) const;  // negative axes count from the end
  int64_t numel() const { return shape().numel(); }
  DType dtype() const { return impl().dtype; }
  Device device() const { return impl().storage->device(); }
  bool is_contiguous() const { return strides() == shape().strides() || numel() <= 1; }
  int64_t bytes() const { return numel() * size_of(dtype()); }

  // The first element, in the memory of the tensor's device, to read as a `const T*` or to write as
  // a `T*`. T must be the tensor's type (or void for any).
  template <typename T>
  Elements<T> data() const;
  // The only element of a tensor of size 1, as a double.
  double item() const;
  // A copy of the elements in row-major order, converted to T.
  template <typename T>
  std::vector<T> to_vector() const;

  // Two handles on the same object (not merely equal elements).
  bool is_same(const Tensor& other) const { return impl_ == other.impl_; }
  // True if nothing else refers to this tensor's object or bytes: writing in place is unseen.
  bool is_sole_owner() const { return impl_.use_count() == 1 && impl_->storage.use_count() == 1; }

  std::shared_ptr<GradData>& grad_data() const { return impl().grad_data; }

  struct Impl {
    std::shared_ptr<Storage> storage;
    Shape shape, strides;
    int64_t offset = 0;  // in elements
    DType dtype = DType::f32;
    std::shared_ptr<GradData> grad_data;
  };
  explicit Tensor(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
  Impl& impl() const {
    CHECK(impl_, "tensor: used before it was given a value");
    return *impl_;
  }

 private:
  std::shared_ptr<Impl> impl_;
};

// What data() gives: a pointer that knows whether it is wanted for reading or for writing, by the
// type that it initialises, such as an argument of a kernel. So every write in place is noted at
// its storage, and in the backward of an op an error comes of reading what was changed after the op
// had been recorded: its gradient would be that of other values. Nobody needs to ask for the check.
template <typename T>
class Elements {
 public:
  Elements(std::nullptr_t = nullptr) {}  // NOLINT(google-explicit-constructor)
  explicit Elements(const Tensor::Impl& tensor) : tensor_(&tensor) {}
  operator const T*() const;  // NOLINT(google-explicit-constructor)
  operator T*() const;        // NOLINT(google-explicit-constructor)

 private:
  T* first() const;
  const Tensor::Impl* tensor_ = nullptr;
};

// The sizes of a tensor of a known number of axes: auto [B, T, C] = dims<3>("conv", "x", x);
template <int N>
std::array<int64_t, N> dims(std::string_view op, std::string_view name, const Tensor& t) {
  CHECK(t.rank() == N, op, ": ", name, " of shape ", t.shape(), ", expected ", N, " axes");
  std::array<int64_t, N> result;
  for (int axis = 0; axis < N; ++axis) result[static_cast<size_t>(axis)] = t.shape()[axis];
  return result;
}

// Views of x's bytes, or copies; no gradients. What does not fit is an Error with both shapes.
namespace raw {
Tensor reshape(const Tensor& x, Shape shape);  // one size may be -1; copies if x is not contiguous
Tensor permute(const Tensor& x, std::span<const int> axes);  // axis i is axes[i] of x; each once
Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end);  // [begin, end); axis -1: last
Tensor expand(const Tensor& x, Shape shape);  // size-1 axes repeated, stride 0; new ones in front
Tensor contiguous(const Tensor& x);           // x itself where it is contiguous already
Tensor cast(const Tensor& x, DType dtype);    // x itself where the type is the same
Tensor clone(const Tensor& x);                // always a copy, contiguous
Tensor to_device(const Tensor& x, Device device);  // x itself where it is there already
// Same shape; converts the type. Between devices the type is the same and both are contiguous.
void copy_into(const Tensor& source, const Tensor& target);
void fill(const Tensor& target, double value);  // of a contiguous one; the value in its type
}  // namespace raw

// Errors that name the op: add: dtypes f32 and bf16 differ.
void check_same_dtype(std::string_view op, const Tensor& a, const Tensor& b);
void check_same_device(std::string_view op, const Tensor& a, const Tensor& b);
void check_same_shape(std::string_view op, const Tensor& a, const Tensor& b);

}  // namespace mullion
