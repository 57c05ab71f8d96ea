// The softmax of one row, shared by softmax and the losses. Each thread keeps the largest element
// it has seen and the sum of exponentials relative to it (online softmax), so that one sweep over
// the row yields both; the group's are joined at the end.
#pragma once
#include "tensor/cuda/reduction/reductions.cuh"

namespace mullion::cuda {

struct RowSum {
  float largest, sum;  // max(x) and sum of exp(x - max(x))
  __device__ __forceinline__ float logsumexp() const { return largest + logf(sum); }
};

// The first sweep over a row. A row of -infinity alone sums to NaN.
template <typename Shape, typename T>
__device__ __forceinline__ RowSum sum_exponentials(HeldRow<Shape, T>& xs, int width) {
  float largest = -INFINITY, sum = 0;
  Shape::each(width, [&](int k, int at) {
    const Floats<Shape::N>& x = xs.read(k, at);
    float top = x.v[0];
#pragma unroll
    for (int i = 1; i < Shape::N; ++i) top = fmaxf(top, x.v[i]);
    if (top > largest) {
      sum *= expf(largest - top);
      largest = top;
    }
    // Nothing but -infinity so far: any shift will do, as long as it is finite.
    const float shift = largest == -INFINITY ? 0.0f : largest;
#pragma unroll
    for (int i = 0; i < Shape::N; ++i) sum += expf(x.v[i] - shift);
  });
  const float top = group_max<Shape::G>(largest);
  return {top, group_sum<Shape::G>(sum * expf(largest - top))};
}

}  // namespace mullion::cuda
