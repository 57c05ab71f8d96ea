// The ids of a vocabulary by falling logit.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace mullion {

// The ids of a vocabulary from the likeliest on, of equals the smaller first. Sorted only as far as
// they are asked for: a draw is among the first few in most texts, and the vocabulary is large.
class LikeliestFirst {
 public:
  // The logits (V) must outlive it.
  explicit LikeliestFirst(std::span<const float> logits);
  size_t size() const { return order_.size(); }
  // The id in place i of V.
  int32_t operator[](size_t i) {
    if (i >= sorted_) sort_beyond(i);
    return order_[i];
  }

 private:
  void sort_beyond(size_t i);

  std::span<const float> logits_;
  std::vector<int32_t> order_;
  size_t sorted_ = 0;
};

}  // namespace mullion
