// Matrices whose values come from a file: a model is made without them, so that one that is larger
// in f32 than memory can be opened in another form.
#pragma once
#include "tensor/tensor.h"

namespace mullion {

// While one lives, layers that this thread makes have placeholders for their matrices: of the right
// shape, without memory and values. Each must be replaced before it is used.
class MatricesComeLater {
 public:
  MatricesComeLater();
  ~MatricesComeLater();
  MatricesComeLater(const MatricesComeLater&) = delete;
  MatricesComeLater& operator=(const MatricesComeLater&) = delete;
};

// The f32 matrix (rows, width) of a new layer, uninitialised, or its placeholder.
Tensor new_matrix(int64_t rows, int64_t width);
bool is_placeholder(const Tensor& matrix);

}  // namespace mullion
