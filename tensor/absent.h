// Tensors whose elements are not here: a shape and a type over a storage of no bytes. Who reads or
// writes their elements gets an error (Elements in tensor.h), never what lies there.
#pragma once
#include <string>

#include "tensor/tensor.h"

namespace mullion {

// `name` is what the error calls it; it may be given later.
Tensor absent_tensor(Shape shape, DType dtype = DType::f32, std::string name = "");
// Of views as well. Also true where someone has taken the elements away (optim/parallel).
bool is_absent(const Tensor& x);
// Names an absent_tensor(), and every view of it.
void name_absent(const Tensor& x, std::string name);
// "q_proj.weight of shape [64, 64]", or "a tensor of shape [64, 64]" without a name.
std::string describe_absent(const Tensor::Impl& x);

}  // namespace mullion
