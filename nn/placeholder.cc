// A placeholder is one element that is repeated with stride 0; no other parameter is laid out so.
#include "nn/placeholder.h"

namespace mullion {

namespace {
thread_local int later = 0;  // how many live
}

MatricesComeLater::MatricesComeLater() { ++later; }
MatricesComeLater::~MatricesComeLater() { --later; }

Tensor new_matrix(int64_t rows, int64_t width) {
  return later > 0 ? raw::expand(Tensor::empty({1, 1}), {rows, width})
                   : Tensor::empty({rows, width});
}

bool is_placeholder(const Tensor& matrix) {
  return matrix.rank() == 2 && matrix.numel() > 1 &&
         matrix.impl().storage->bytes() < matrix.bytes();
}

}  // namespace mullion
