// SwiGLU: y = silu(gate) up, and dgate = g up silu'(gate), dup = g silu(gate), by the functor that
// the CPU uses. A thread takes 16 bytes of each array where their pointers allow.
#include "tensor/cuda/kernels.h"
#include "tensor/cuda/rows.cuh"
#include "tensor/elementwise.h"

namespace mullion::cuda {
namespace {

constexpr int kThreads = 256;

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    swiglu_kernel(const T* gate, const T* up, T* y, int64_t begin, int64_t end) {
  const int64_t at = begin + (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= end) return;
  const Floats<N> a = load<N>(gate + at), b = load<N>(up + at);
  Floats<N> out;
#pragma unroll
  for (int i = 0; i < N; ++i) out.v[i] = Silu::value(a.v[i]) * b.v[i];
  store(y + at, out);
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads)
    swiglu_backward_kernel(const T* gate, const T* up, const T* g, T* dgate, T* dup, int64_t begin,
                           int64_t end) {
  const int64_t at = begin + (int64_t{blockIdx.x} * kThreads + threadIdx.x) * N;
  if (at >= end) return;
  const Floats<N> a = load<N>(gate + at), b = load<N>(up + at), d = load<N>(g + at);
  Floats<N> by_gate, by_up;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    by_gate.v[i] = Silu::backward(a.v[i], 0.0f, d.v[i] * b.v[i]);
    by_up.v[i] = d.v[i] * Silu::value(a.v[i]);
  }
  if (dgate) store(dgate + at, by_gate);
  if (dup) store(dup + at, by_up);
}

// run(N, begin, end, blocks) for the elements that go 16 bytes at a time, then for the others.
template <typename T, typename F>
void in_vectors(int64_t n, bool vectors, F run) {
  constexpr int N = 16 / sizeof(T);
  const int64_t whole = vectors ? n - n % N : 0;
  if (whole > 0)
    run(std::integral_constant<int, N>{}, 0, whole, Grid{blocks_for(whole / N, kThreads)});
  if (whole < n)
    run(std::integral_constant<int, 1>{}, whole, n, Grid{blocks_for(n - whole, kThreads)});
}

}  // namespace

void swiglu(const SwigluArgs& args) {
  dispatch_cuda("swiglu", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    in_vectors<T>(args.n, aligned(args.gate, args.up, args.y),
                  [&](auto lanes, int64_t begin, int64_t end, Grid grid) {
                    launch("swiglu", swiglu_kernel<T, lanes()>, grid, kThreads, 0,
                           static_cast<const T*>(args.gate), static_cast<const T*>(args.up),
                           static_cast<T*>(args.y), begin, end);
                  });
  });
}

void swiglu_backward(const SwigluBackwardArgs& args) {
  dispatch_cuda("swiglu_backward", args.dtype, [&](auto zero) {
    using T = decltype(zero);
    in_vectors<T>(args.n, aligned(args.gate, args.up, args.g, args.dgate, args.dup),
                  [&](auto lanes, int64_t begin, int64_t end, Grid grid) {
                    launch("swiglu_backward", swiglu_backward_kernel<T, lanes()>, grid, kThreads, 0,
                           static_cast<const T*>(args.gate), static_cast<const T*>(args.up),
                           static_cast<const T*>(args.g), static_cast<T*>(args.dgate),
                           static_cast<T*>(args.dup), begin, end);
                  });
  });
}

}  // namespace mullion::cuda
