// An array between marks, for tests of attention: what a kernel writes elsewhere shows.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "tensor/kernel_args/attention.h"

namespace mullion::test {

// An array of B x n x heads x D with gaps between tokens; the gaps and both ends hold a mark that
// must still be there afterwards.
template <typename T>
class FencedArray {
 public:
  static constexpr int64_t kFence = 64;
  static T mark() { return T(12345.678); }

  FencedArray(int64_t B, int64_t n, int64_t heads, int64_t D, int64_t gap, T fill)
      : tokens_(B * n),
        width_(heads * D),
        strides_{n * (heads * D + gap), heads * D + gap, D},
        data_(static_cast<size_t>(B * n * (heads * D + gap) + 2 * kFence), mark()) {
    for_all([&](int64_t, T& x) { x = fill; });
  }
  FencedArray(int64_t B, int64_t n, int64_t heads, int64_t D, int64_t gap,
              const std::vector<double>& v)
      : FencedArray(B, n, heads, D, gap, T(0)) {
    for_all([&](int64_t i, T& x) { x = static_cast<T>(v.at(static_cast<size_t>(i))); });
  }
  T* data() { return data_.data() + kFence; }
  AttentionStrides strides() const { return strides_; }
  std::vector<T> values() {
    std::vector<T> all;
    for_all([&](int64_t, T& x) { all.push_back(x); });
    return all;
  }
  bool fence_stands() const {
    const auto marks = std::count(data_.begin(), data_.end(), mark());
    return marks == static_cast<int64_t>(data_.size()) - tokens_ * width_;
  }

 private:
  template <typename F>
  void for_all(F&& f) {
    for (int64_t t = 0; t < tokens_; ++t)
      for (int64_t i = 0; i < width_; ++i) f(t * width_ + i, data()[t * strides_.token + i]);
  }
  int64_t tokens_, width_;
  AttentionStrides strides_;
  std::vector<T> data_;
};

}  // namespace mullion::test
