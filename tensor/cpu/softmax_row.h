// The steps of a softmax over one contiguous row, shared by softmax and the losses.
#pragma once
#include <cmath>

#include "tensor/cpu/rows.h"

namespace mullion::cpu {

template <typename T>
struct RowSum {
  T largest, sum;  // max(x) and sum of exp(x - max(x))
  // The logarithm of the sum of exp(x).
  T logsumexp() const { return largest + std::log(sum); }
};

// y = exp(x - max(x)); y may be x, or null where only the sum is wanted.
template <typename T>
RowSum<T> exp_row(const T* x, int64_t width, T* y) {
  using P = Pack<T>;
  const T largest = largest_of(x, width), least = -std::numeric_limits<T>::infinity();
  const P shift = largest;
  P even = P::Zero(), odd = P::Zero();
  constexpr int64_t lanes = P::kLanes;
  int64_t i = 0;
  for (; i + 2 * lanes <= width; i += 2 * lanes) {
    const P a = exp(P::load(x + i) - shift), b = exp(P::load(x + i + lanes) - shift);
    even += a;
    odd += b;
    if (y) {
      a.store(y + i);
      b.store(y + i + lanes);
    }
  }
  for (; i < width; i += lanes) {
    const int64_t count = std::min(lanes, width - i);
    const P a = exp(P::load(x + i, count, least) - shift);
    even += a;
    if (y) a.store(y + i, count);
  }
  return {largest, (even + odd).sum()};
}

template <typename T>
void scale_row(T* y, int64_t width, T factor) {
  using P = Pack<T>;
  map_packs(
      0, width, y, [f = P(factor)](P v) { return v * f; }, static_cast<const T*>(y));
}

}  // namespace mullion::cpu
