// The name rides on the storage's deleter, so that a tensor that is here pays nothing for it.
#include "tensor/absent.h"

#include <utility>

namespace mullion {
namespace {

struct NamedDelete {
  std::string name;
  void operator()(Storage* storage) const { delete storage; }
};

}  // namespace

Tensor absent_tensor(Shape shape, DType dtype, std::string name) {
  Tensor::Impl impl;
  impl.storage = {new Storage(0, Device{}), NamedDelete{std::move(name)}};
  impl.shape = shape;
  impl.strides = shape.strides();
  impl.dtype = dtype;
  return Tensor(std::make_shared<Tensor::Impl>(std::move(impl)));
}

bool is_absent(const Tensor& x) { return x.numel() > 0 && x.impl().storage->bytes() == 0; }

void name_absent(const Tensor& x, std::string name) {
  auto* deleter = std::get_deleter<NamedDelete>(x.impl().storage);
  CHECK(deleter, "tensor: ", name, " is none whose elements come later");
  deleter->name = std::move(name);
}

std::string describe_absent(const Tensor::Impl& x) {
  const auto* deleter = std::get_deleter<NamedDelete>(x.storage);
  const bool named = deleter && !deleter->name.empty();
  return concat(named ? deleter->name : "a tensor", " of shape ", x.shape);
}

}  // namespace mullion
