// Weight: what a layer multiplies with, a tensor or a matrix of blocks. A matrix of blocks is never
// trained. A tensor is taken for one where ops ask for a weight.
#pragma once
#include "autograd/node.h"
#include "tensor/block_matrix.h"

namespace mullion {

class Weight {
 public:
  Weight() = default;                                         // undefined
  Weight(Tensor matrix) : tensor_(std::move(matrix)) {}       // NOLINT(google-explicit-constructor)
  Weight(BlockMatrix blocks) : blocks_(std::move(blocks)) {}  // NOLINT(google-explicit-constructor)

  bool defined() const { return tensor_.defined() || blocks_.defined(); }
  bool is_blocks() const { return blocks_.defined(); }
  const Tensor& tensor() const { return tensor_; }  // undefined where it is blocks
  Tensor& tensor() { return tensor_; }
  const BlockMatrix& blocks() const { return blocks_; }
  int rank() const { return is_blocks() ? 2 : tensor_.rank(); }
  int64_t dim(int axis) const { return shape()[axis < 0 ? axis + rank() : axis]; }
  Shape shape() const {
    return is_blocks() ? Shape{blocks_.rows(), blocks_.width()} : tensor_.shape();
  }
  int64_t numel() const { return shape().numel(); }
  int64_t bytes() const { return is_blocks() ? blocks_.bytes().bytes() : tensor_.bytes(); }
  Device device() const { return is_blocks() ? blocks_.device() : tensor_.device(); }
  bool is_same(const Weight& other) const {
    return is_blocks() ? other.is_blocks() && blocks_.is_same(other.blocks_)
                       : !other.is_blocks() && tensor_.is_same(other.tensor_);
  }

 private:
  Tensor tensor_;
  BlockMatrix blocks_;
};

inline bool requires_grad(const Weight& w) {
  return w.tensor().defined() && requires_grad(w.tensor());
}

}  // namespace mullion
