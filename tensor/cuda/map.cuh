// Elementwise kernels over contiguous arrays: y[i] = f(x0[i], x1[i], ...). A thread moves 16 bytes
// at a time where every pointer allows; the arithmetic is f32 whatever the type in memory.
#pragma once
#include "tensor/cuda/rows.cuh"

namespace mullion::cuda {

constexpr int kMapThreads = 256;

template <int N, typename T, typename F, typename... X>
__global__ void __launch_bounds__(kMapThreads) map_kernel(F f, int64_t n, T* y, const X*... x) {
  const int64_t step = int64_t{gridDim.x} * kMapThreads * N;
  for (int64_t i = (int64_t{blockIdx.x} * kMapThreads + threadIdx.x) * N; i < n; i += step) {
    if (N == 1 || i + N <= n) {
      const auto in = [&](const auto&... loaded) {
        Floats<N> out;
#pragma unroll
        for (int j = 0; j < N; ++j) out.v[j] = f(loaded.v[j]...);
        store<N>(y + i, out);
      };
      in(load<N>(x + i)...);
    } else {
      for (int64_t j = i; j < n; ++j) y[j] = narrow<T>(f(widen(x[j])...));
    }
  }
}

// y may be one of the x.
template <typename T, typename F, typename... X>
void map(const char* name, int64_t n, F f, T* y, const X*... x) {
  if (n == 0) return;
  constexpr int N = 16 / sizeof(T);
  constexpr int64_t kMostBlocks = int64_t{1} << 20;  // beyond it a thread walks on
  if (aligned(y, x...)) {
    const int64_t blocks = blocks_for((n + N - 1) / N, kMapThreads, kMostBlocks);
    launch(name, map_kernel<N, T, F, X...>, Grid{blocks}, kMapThreads, 0, f, n, y, x...);
  } else {
    const int64_t blocks = blocks_for(n, kMapThreads, kMostBlocks);
    launch(name, map_kernel<1, T, F, X...>, Grid{blocks}, kMapThreads, 0, f, n, y, x...);
  }
}

}  // namespace mullion::cuda
