// Absent tensors, named by the walk over the model.
#include "nn/placeholder.h"

#include "tensor/absent.h"

namespace mullion {

namespace {
thread_local int later = 0;  // how many live
}

MatricesComeLater::MatricesComeLater() { ++later; }
MatricesComeLater::~MatricesComeLater() { --later; }

Tensor new_matrix(int64_t rows, int64_t width) {
  return later > 0 ? absent_tensor({rows, width}) : Tensor::empty({rows, width});
}

void name_placeholders(Module& module) {
  for_each_parameter(module, [](const std::string& name, Tensor& p) {
    if (is_absent(p)) name_absent(p, name);
  });
}

}  // namespace mullion
