// Making, reading and viewing tensors. Views compute strides; every element is moved by the copy
// kernel of the tensor's device.
#include "tensor/tensor.h"

#include "tensor/absent.h"
#include "tensor/kernel_table.h"
#include "tensor/op_scope.h"
#include "tensor/step_memory.h"

namespace mullion {
namespace {

Tensor view_of(const Tensor& x, Shape shape, Shape strides, int64_t offset) {
  auto impl = std::make_shared<Tensor::Impl>();
  impl->storage = x.impl().storage;
  impl->shape = shape;
  impl->strides = strides;
  impl->offset = offset;
  impl->dtype = x.dtype();
  return Tensor(std::move(impl));
}

int axis_in(const Tensor& x, int axis) {
  CHECK(axis >= -x.rank() && axis < x.rank(), "axis ", axis, " of a tensor of shape ", x.shape());
  return axis < 0 ? axis + x.rank() : axis;
}

}  // namespace

Tensor Tensor::empty(Shape shape, DType dtype, Device device) {
  int64_t n = 1;
  for (int64_t size : shape) {
    CHECK(size >= 0, "tensor: negative size in shape ", shape);
    CHECK(!__builtin_mul_overflow(n, size, &n) && n < (int64_t{1} << 60), "tensor: shape ", shape,
          " has too many elements");
  }
  auto impl = std::make_shared<Impl>();
  try {
    impl->storage = std::make_shared<Storage>(n * size_of(dtype), device);
  } catch (const Error& error) {
    if (error.fault() != Fault::memory) throw;
    throw error.in(concat(OpScope::prefix(), "a tensor of shape ", shape, ", ", name_of(dtype)));
  }
  impl->shape = shape;
  impl->strides = shape.strides();
  impl->dtype = dtype;
  return Tensor(std::move(impl));
}

Tensor Tensor::full(Shape shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  raw::fill(t, value);
  return t;
}

Tensor Tensor::zeros(Shape shape, DType dtype, Device device) {
  return full(shape, 0.0, dtype, device);
}

int64_t Tensor::dim(int axis) const { return shape()[axis_in(*this, axis)]; }

template <typename T>
Elements<T> Tensor::data() const {
  if constexpr (!std::is_void_v<T>)
    CHECK(dtype() == dtype_of<T>(), "tensor: elements read as ", name_of(dtype_of<T>()),
          " are of type ", name_of(dtype()));
  if (StepMemory* memory = StepMemory::recording()) memory->keep(impl().storage);
  return Elements<T>(impl());
}

template <typename T>
T* Elements<T>::first() const {
  CHECK(tensor_->storage->bytes() > 0 || tensor_->shape.numel() == 0, OpScope::prefix(),
        describe_absent(*tensor_), " is used while its elements are not here");
  return reinterpret_cast<T*>(tensor_->storage->data() + tensor_->offset * size_of(tensor_->dtype));
}

template <typename T>
Elements<T>::operator const T*() const {
  if (!tensor_) return nullptr;
  const Storage& storage = *tensor_->storage;
  if (const uint64_t op = OpScope::current().recorded; op != 0 && storage.changed_since(op)) {
    const char* writer = storage.last_writer();
    fail(Fault::other, OpScope::prefix(), "a tensor of shape ", tensor_->shape,
         ", which it needs as it was in the forward, was changed in place afterwards by ",
         writer ? writer : "a write outside of any op");
  }
  return first();
}

template <typename T>
Elements<T>::operator T*() const {
  if (!tensor_) return nullptr;
  tensor_->storage->note_write();
  return first();
}

template class Elements<void>;
template Elements<void> Tensor::data<void>() const;
template class Elements<float>;
template Elements<float> Tensor::data<float>() const;
template class Elements<double>;
template Elements<double> Tensor::data<double>() const;
template class Elements<bf16>;
template Elements<bf16> Tensor::data<bf16>() const;
template class Elements<f16>;
template Elements<f16> Tensor::data<f16>() const;
template class Elements<int32_t>;
template Elements<int32_t> Tensor::data<int32_t>() const;
template class Elements<int64_t>;
template Elements<int64_t> Tensor::data<int64_t>() const;
template class Elements<uint8_t>;
template Elements<uint8_t> Tensor::data<uint8_t>() const;
template class Elements<bool>;
template Elements<bool> Tensor::data<bool>() const;

template <typename T>
Tensor Tensor::from(std::span<const T> values, Shape shape, Device device) {
  CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "tensor: ", values.size(),
        " values given for shape ", shape);
  Tensor t = empty(shape, dtype_of<T>(), device);
  if (device.type == DeviceType::cpu)
    std::copy(values.begin(), values.end(), static_cast<T*>(t.data<T>()));
  else
    backend(device.type).upload(t.data<void>(), values.data(), t.bytes(), device.index);
  return t;
}
template Tensor Tensor::from(std::span<const float>, Shape, Device);
template Tensor Tensor::from(std::span<const double>, Shape, Device);
template Tensor Tensor::from(std::span<const int32_t>, Shape, Device);
template Tensor Tensor::from(std::span<const int64_t>, Shape, Device);
template Tensor Tensor::from(std::span<const uint8_t>, Shape, Device);

double Tensor::item() const {
  CHECK(numel() == 1, "tensor: item() of shape ", shape());
  return to_vector<double>()[0];
}

template <typename T>
std::vector<T> Tensor::to_vector() const {
  // Converted on the CPU: a device may not know the type (f64).
  const Tensor host = raw::contiguous(raw::cast(raw::to_device(*this, Device{}), dtype_of<T>()));
  const T* first = host.data<T>();
  return std::vector<T>(first, first + host.numel());
}
template std::vector<float> Tensor::to_vector() const;
template std::vector<double> Tensor::to_vector() const;
template std::vector<int32_t> Tensor::to_vector() const;
template std::vector<int64_t> Tensor::to_vector() const;
template std::vector<uint8_t> Tensor::to_vector() const;

namespace raw {

Tensor reshape(const Tensor& x, Shape shape) {
  int64_t known = 1;
  int unknown = -1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (shape[axis] == -1 && unknown < 0)
      unknown = axis;
    else
      known *= shape[axis];
  }
  if (unknown >= 0 && known > 0) shape[unknown] = x.numel() / known;
  CHECK(shape.numel() == x.numel(), "reshape: ", x.shape(), " to ", shape);
  const Tensor source = contiguous(x);
  return view_of(source, shape, shape.strides(), source.impl().offset);
}

Tensor permute(const Tensor& x, std::span<const int> axes) {
  CHECK(static_cast<int>(axes.size()) == x.rank(), "permute: ", axes.size(), " axes for shape ",
        x.shape());
  Shape shape, strides;
  unsigned seen = 0;
  for (int axis : axes) {
    const int a = axis_in(x, axis);
    CHECK(!(seen & (1u << a)), "permute: axis ", axis, " named twice");
    seen |= 1u << a;
    shape.push_back(x.shape()[a]);
    strides.push_back(x.strides()[a]);
  }
  return view_of(x, shape, strides, x.impl().offset);
}

Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  const int a = axis_in(x, axis);
  CHECK(0 <= begin && begin <= end && end <= x.shape()[a], "slice: [", begin, ", ", end,
        ") of axis ", a, " of shape ", x.shape());
  Shape shape = x.shape();
  shape[a] = end - begin;
  return view_of(x, shape, x.strides(), x.impl().offset + begin * x.strides()[a]);
}

Tensor expand(const Tensor& x, Shape shape) {
  const int added = shape.rank() - x.rank();
  CHECK(added >= 0, "expand: ", x.shape(), " to ", shape);
  Shape strides = shape;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool repeated = axis < added || x.shape()[axis - added] != shape[axis];
    CHECK(axis < added || !repeated || x.shape()[axis - added] == 1, "expand: ", x.shape(), " to ",
          shape);
    strides[axis] = repeated ? 0 : x.strides()[axis - added];
  }
  return view_of(x, shape, strides, x.impl().offset);
}

Tensor contiguous(const Tensor& x) { return x.is_contiguous() ? x : clone(x); }

Tensor cast(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  copy_into(x, y);
  return y;
}

Tensor clone(const Tensor& x) {
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  copy_into(x, y);
  return y;
}

Tensor to_device(const Tensor& x, Device device) {
  if (x.device() == device) return x;
  kernels(device);  // before anything is moved: throws where the device is not there
  Tensor y = Tensor::empty(x.shape(), x.dtype(), device);
  copy_into(contiguous(x), y);
  return y;
}

namespace {
void copy_between(const Tensor& source, const Tensor& target) {
  const Device from = source.device(), to = target.device();
  CHECK(source.dtype() == target.dtype() && source.is_contiguous() && target.is_contiguous(),
        "copy from ", name_of(from), " to ", name_of(to), ": of type ", name_of(source.dtype()),
        " and ", name_of(target.dtype()), ", or a strided view");
  if (source.numel() == 0) return;
  const void* first = source.data<void>();
  if (from.type == DeviceType::cpu)
    backend(to.type).upload(target.data<void>(), first, source.bytes(), to.index);
  else if (to.type == DeviceType::cpu)
    backend(from.type).download(target.data<void>(), first, source.bytes(), from.index);
  else
    backend(to.type).copy(target.data<void>(), to.index, first, from.index, source.bytes());
}
}  // namespace

void copy_into(const Tensor& source, const Tensor& target) {
  check_same_shape("copy", source, target);
  if (source.device() != target.device()) return copy_between(source, target);
  kernels(source.device())
      .copy({.source = source.data<void>(),
             .target = target.data<void>(),
             .source_type = source.dtype(),
             .target_type = target.dtype(),
             .shape = source.shape(),
             .source_strides = source.strides(),
             .target_strides = target.strides()});
}

void fill(const Tensor& target, double value) {
  CHECK(target.is_contiguous(), "fill: the tensor of shape ", target.shape(), " is a strided view");
  kernels(target.device())
      .fill(
          {.y = target.data<void>(), .dtype = target.dtype(), .n = target.numel(), .value = value});
}

}  // namespace raw

void check_same_dtype(std::string_view op, const Tensor& a, const Tensor& b) {
  CHECK(a.dtype() == b.dtype(), op, ": element types ", name_of(a.dtype()), " and ",
        name_of(b.dtype()), " differ");
}
void check_same_device(std::string_view op, const Tensor& a, const Tensor& b) {
  CHECK(a.device() == b.device(), op, ": devices ", name_of(a.device()), ":", a.device().index,
        " and ", name_of(b.device()), ":", b.device().index, " differ");
}
void check_same_shape(std::string_view op, const Tensor& a, const Tensor& b) {
  CHECK(a.shape() == b.shape(), op, ": shapes ", a.shape(), " and ", b.shape(), " differ");
}

}  // namespace mullion
