// BlockMatrix: a matrix in the blocks that a file stores it in (tensor/io/stored_type.h), which
// takes a quarter of f32's memory or less. It is no tensor: it has no element type of ours, no
// gradient and no views. A handle; copying shares the bytes.
#pragma once
#include "tensor/io/stored_type.h"
#include "tensor/tensor.h"

namespace mullion {

// Whether the type has blocks that kernels compute with: every GGUF block type that is read.
bool is_block_type(StoredType type);

class BlockMatrix {
 public:
  BlockMatrix() = default;  // undefined
  // Room for (rows, width). Error(bad_file) where a row is no whole number of blocks.
  BlockMatrix(StoredType type, int64_t rows, int64_t width, Device device = {});

  bool defined() const { return bytes_.defined(); }
  StoredType type() const { return type_; }
  int64_t rows() const { return bytes_.dim(0); }
  int64_t width() const { return width_; }
  int64_t row_bytes() const { return bytes_.dim(1); }
  Device device() const { return bytes_.device(); }
  // (rows, row_bytes) of u8: the blocks of a row one after another.
  const Tensor& bytes() const { return bytes_; }
  // Another object on the same blocks.
  BlockMatrix alias() const;
  // Two handles on the same object.
  bool is_same(const BlockMatrix& other) const { return bytes_.is_same(other.bytes_); }

 private:
  friend BlockMatrix to_device(const BlockMatrix& x, Device device);
  StoredType type_ = StoredType::q8_0;
  int64_t width_ = 0;
  Tensor bytes_;
};

BlockMatrix to_device(const BlockMatrix& x, Device device);  // x itself where it is there already
// Every element in f32, on the CPU: (rows, width).
Tensor widened(const BlockMatrix& x);
// Throws Error(bad_file) that names `what` and the row where a scale is NaN or infinite. On the
// CPU.
void check_scales(const BlockMatrix& x, const std::string& what);

}  // namespace mullion
