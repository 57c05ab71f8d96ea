// Matrices whose values come from a file: a model is made without them, so that one that is larger
// in f32 than memory can be opened in another form.
#pragma once
#include <memory>
#include <utility>

#include "nn/module.h"

namespace mullion {

// While one lives, layers that this thread makes have placeholders for their matrices: of the right
// shape, without memory and values (tensor/absent.h).
class MatricesComeLater {
 public:
  MatricesComeLater();
  ~MatricesComeLater();
  MatricesComeLater(const MatricesComeLater&) = delete;
  MatricesComeLater& operator=(const MatricesComeLater&) = delete;
};

// The f32 matrix (rows, width) of a new layer, uninitialised, or its placeholder.
Tensor new_matrix(int64_t rows, int64_t width);
// Tells each placeholder the name of the parameter that it stands for.
void name_placeholders(Module& module);

// A module M(args...) with placeholders for its matrices. Each is to be replaced; one that is not
// is an error that names it where it is computed with, saved or read otherwise.
template <typename M, typename... Args>
std::unique_ptr<M> without_matrices(Args&&... args) {
  std::unique_ptr<M> module;
  {
    const MatricesComeLater later;
    module = std::make_unique<M>(std::forward<Args>(args)...);
  }
  name_placeholders(*module);
  return module;
}

}  // namespace mullion
