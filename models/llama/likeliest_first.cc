// Sorted in growing parts, as far as somebody asks.
#include "models/llama/likeliest_first.h"

#include <algorithm>
#include <numeric>

namespace mullion {

namespace {
constexpr size_t kFirstSorted = 64;
}

LikeliestFirst::LikeliestFirst(std::span<const float> logits)
    : logits_(logits), order_(logits.size()) {
  std::iota(order_.begin(), order_.end(), 0);
}

// At least twice as many as before, so that asking for all of them costs one sort.
void LikeliestFirst::sort_beyond(size_t i) {
  const auto before = [&](int32_t a, int32_t b) {
    const float za = logits_[static_cast<size_t>(a)], zb = logits_[static_cast<size_t>(b)];
    return za != zb ? za > zb : a < b;
  };
  const auto at = [&](size_t place) { return order_.begin() + static_cast<std::ptrdiff_t>(place); };
  const size_t end = std::min(order_.size(), std::max({kFirstSorted, 4 * sorted_, i + 1}));
  if (end < order_.size()) std::nth_element(at(sorted_), at(end), order_.end(), before);
  std::sort(at(sorted_), at(end), before);
  sorted_ = end;
}

}  // namespace mullion
