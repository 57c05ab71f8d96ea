// Tables of the rotary position embedding (Su et al. 2021) for the positions a model has met so
// far.
#pragma once
#include <mutex>
#include <vector>

#include "tensor/tensor.h"

namespace mullion {

class RopeTable {
 public:
  // inv_freq: D / 2 angles a position, scaling included.
  explicit RopeTable(std::vector<float> inv_freq) : inv_freq_(std::move(inv_freq)) {}

  struct Slice {
    Tensor cos, sin;  // (tokens, D / 2)
  };
  // Positions begin to begin + tokens - 1, on a device. Any number of threads may ask.
  Slice at(int64_t begin, int64_t tokens, Device device = {}) const;
  // Of `tokens` packed tokens, in which positions begin anew at each of `documents`, ascending from
  // 0.
  Slice at(const std::vector<int64_t>& documents, int64_t tokens, Device device = {}) const;

 private:
  void grow(int64_t positions, Device device) const;
  std::vector<float> inv_freq_;
  mutable std::mutex growing_;
  mutable Tensor cos_, sin_;  // grown by replacement: slices of the old ones stay valid
};

}  // namespace mullion
