// Whether products with matrices of blocks (tensor/block_matrix.h) may round their other operand to
// 8 bits, as llama.cpp does. Who decodes says so, for its thread: a step of Generation
// (models/llama/generate.h). All other products take the blocks' exact values, so that nothing but
// decoding is rounded, and no result depends on how many rows happen to be multiplied at once.
#pragma once

namespace mullion {

class RoundedProducts {
 public:
  RoundedProducts() { ++depth_; }
  ~RoundedProducts() { --depth_; }
  RoundedProducts(const RoundedProducts&) = delete;
  RoundedProducts& operator=(const RoundedProducts&) = delete;
  static bool allowed() { return depth_ > 0; }

 private:
  static inline thread_local int depth_ = 0;
};

}  // namespace mullion
