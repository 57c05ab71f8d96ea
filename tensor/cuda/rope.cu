// Rotary position embedding in the half-split form (Su et al. 2021): element i of a head is turned
// together with element i + D/2 by the angle of its token. A block turns the heads of one token; a
// thread turns N pairs at a time, 16 bytes where pointers and D allow.
#include <algorithm>

#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"

namespace mullion::cuda {
namespace {

constexpr int kMostThreads = 256;

template <typename T, int N>
__global__ void __launch_bounds__(kMostThreads)
    rope_kernel(const T* x, const float* cosine, const float* sine, T* y, int64_t tokens, int heads,
                int half, float sign) {
  const int64_t row = blockIdx.x, angle = row % tokens * half;
  const int parts = half / N;
  for (int part = static_cast<int>(threadIdx.x); part < heads * parts;
       part += static_cast<int>(blockDim.x)) {
    const int head = part / parts, i = part % parts * N;
    const int64_t at = (row * heads + head) * 2 * half + i;
    const Floats<N> a = load<N>(x + at), b = load<N>(x + at + half);
    const Floats<N> c = load<N>(cosine + angle + i), s = load<N>(sine + angle + i);
    Floats<N> first, second;
#pragma unroll
    for (int k = 0; k < N; ++k) {
      const float t = s.v[k] * sign;
      first.v[k] = a.v[k] * c.v[k] - b.v[k] * t;
      second.v[k] = b.v[k] * c.v[k] + a.v[k] * t;
    }
    store(y + at, first);
    store(y + at + half, second);
  }
}

template <typename T, int N>
void turn(const RopeArgs& args) {
  const int64_t half = args.head_dim / 2, parts = args.heads * (half / N);
  const int threads = static_cast<int>(std::min<int64_t>(kMostThreads, (parts + 31) / 32 * 32));
  CHECK_AS(Fault::usage, args.heads * args.head_dim <= 0x7fffffff, "rope: ", args.heads,
           " heads of ", args.head_dim, " elements are too wide for cuda");
  if (parts == 0) return;
  launch("rope", rope_kernel<T, N>, Grid{args.batch * args.tokens}, threads, 0,
         static_cast<const T*>(args.x), static_cast<const float*>(args.cos),
         static_cast<const float*>(args.sin), static_cast<T*>(args.y), args.tokens, args.heads,
         half, args.inverse ? -1.0f : 1.0f);
}

}  // namespace

void rope(const RopeArgs& args) {
  CHECK_AS(Fault::usage, args.head_dim > 0 && args.head_dim % 2 == 0, "rope: head width ",
           args.head_dim, " is not even");
  dispatch_cuda("rope", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    constexpr int N = 16 / sizeof(T);
    if (aligned(args.x, args.cos, args.sin, args.y) && args.head_dim / 2 % N == 0)
      return turn<T, N>(args);
    turn<T, 1>(args);
  });
}

}  // namespace mullion::cuda
